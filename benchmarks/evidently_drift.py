"""The peer: Evidently's data drift preset as it comes. ``python -m benchmarks.evidently_drift REFERENCE CURRENT``.

Evidently is imported when it is asked for: it takes five seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any

import pandas as pd

from airflow_mlops.testing.peak_memory import peak_mb


@dataclass(frozen=True)
class DriftResult:
    """The drift of the data set, by the preset's limit of half of the columns, and the drifted columns."""

    dataset: bool
    columns: tuple[str, ...]


def evidently_drift(reference: pd.DataFrame, current: pd.DataFrame) -> DriftResult:
    """Return the drift of two frames by the preset."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import Report
        from evidently.presets import DataDriftPreset

        metrics: list[dict[str, Any]] = Report([DataDriftPreset()]).run(current, reference).dict()["metrics"]
    share, columns = None, []
    for metric in metrics:
        config, value = metric["config"], metric["value"]
        if config["type"].endswith("DriftedColumnsCount"):
            share = float(value["share"]) - float(config["drift_share"])
        elif config["type"].endswith("ValueDrift"):
            # Tests give p-values, which drift below the limit; distances drift above it.
            below = "p_value" in config["method"]
            if (float(value) < config["threshold"]) if below else (float(value) >= config["threshold"]):
                columns.append(str(config["column"]))
    if share is None:
        raise RuntimeError("the preset says nothing of the data set")
    return DriftResult(share >= 0, tuple(columns))


if __name__ == "__main__":
    frames = [pd.read_parquet(path) for path in sys.argv[1:3]]
    evidently_drift(frames[0][:500], frames[1][:500])  # imports and whatever else happens once
    began = time.process_time()
    result = evidently_drift(*frames)
    spent = time.process_time() - began
    print(json.dumps({"cpu": spent, "peak_mb": peak_mb(), "drifted": len(result.columns)}))
