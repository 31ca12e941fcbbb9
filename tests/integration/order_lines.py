"""A loop on real stores whose rows are lines of orders: the key is ``[order_id, line]``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import toy_fields, week

KEY = ["order_id", "line"]
COLUMN = "order_id+line"
ORDERS = 60
SECRET = "a secret of its own, long enough"
CONTRACT: dict[str, Any] = {
    "contract": "lines",
    "key": KEY,
    "time": "at",
    "columns": {
        "order_id": {"type": "int"},
        "line": {"type": "int"},
        "at": {"type": "time", "zone": "none"},
        "x": {"type": "float"},
        "y": {"type": "float"},
    },
}


def order_lines(number: int, orders: int = ORDERS) -> pd.DataFrame:
    """Return the lines of a week's orders, three of each; ``y`` is ``2 x`` plus noise."""
    source = np.random.default_rng(number)
    x = source.normal(size=3 * orders)
    return pd.DataFrame(
        {
            "order_id": np.repeat(np.arange(orders) + 1000 * (number + 1), 3),
            "line": np.tile([1, 2, 3], orders),
            "at": pd.Timestamp(week(number)) - pd.Timedelta(hours=30),
            "x": x,
            "y": 2 * x + source.normal(size=3 * orders),
        }
    )


def lines_fields(
    kind: str = "csv",
    contract_file: str | None = "contract.yaml",
    stages: Sequence[dict[str, int]] = ({"live": 100},),
    **data: Any,
) -> dict[str, Any]:
    """Return the declaration of the loop, with other keys of ``data``."""
    train = {"function": "tests.unit.core.toy_loop:candidates", "window": 2, "holdout": 1}
    rollout = {"stages": list(stages), "margin": 0.5, "min_rows": 20}
    fields = toy_fields(rollout=rollout, train=train, retrain={"confidence": "none"})
    fields["data"] = {
        "source": {"kind": kind, "uri": f"in/{{partition}}.{kind}"},
        "key": KEY,
        "time": "at",
        "label": "y",
        "contract": contract_file,
        "tolerance": 0.5,
        **data,
    }
    return fields


def open_lines(root: Path, contract: dict[str, Any] | None = None, kind: str = "csv", **data: Any) -> Workspace:
    """Return the workspace of the loop below a folder, opened afresh."""
    (root / "contract.yaml").write_text(yaml.safe_dump(CONTRACT if contract is None else contract))
    loop = Loop(**lines_fields(kind, **data))
    stores = Stores(**{**vars(Stores.embedded(root / "home")), "secret": SECRET})
    return open_workspace(loop, stores, root=root, actor="tests")


def put(workspace: Workspace, number: int, rows: pd.DataFrame | None = None, *, folder: str = "in") -> None:
    """Deliver a week: its rows, or other ones; ``folder`` is that of the source."""
    rows = order_lines(number) if rows is None else rows
    place = workspace.root / folder
    place.mkdir(exist_ok=True)
    declared = workspace.loop.data.labels if folder == "labels" else workspace.loop.data
    assert declared is not None
    if declared.source.kind == "csv":
        rows.to_csv(place / f"{week(number)[:10]}.csv", index=False)
    else:
        rows.to_parquet(place / f"{week(number)[:10]}.parquet")


def ingest(workspace: Workspace, number: int) -> SnapshotPublished:
    """Take, validate and publish a week."""
    manifest = take_snapshot(workspace, week(number))
    return publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator())).details


def published(workspace: Workspace, number: int) -> pd.DataFrame:
    """Return the published rows of a week, ordered by their key."""
    version = workspace.state().published[week(number)].version
    rows: pd.DataFrame = workspace.snapshots.read(week(number), version=version).to_pandas()
    return rows.sort_values(COLUMN, ignore_index=True)


def quarantined(workspace: Workspace, number: int) -> list[tuple[str | None, list[str]]]:
    """Return the keys and the reasons of the rows in quarantine."""
    rows = workspace.quarantine.read(week(number)).to_pylist()
    return [(row["key"], json.loads(row["reasons"])) for row in rows]
