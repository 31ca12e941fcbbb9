"""Measure scoring a million rows by two versions, against bare ``predict`` and a Parquet read and write.

Ours is what the loop does with a published partition while a canary of 10 % is under way: the snapshot is read from
Delta, both versions are fetched and verified, predict every row, the sticky split says which of them serves which key,
and all of it is committed to Delta, digested and recorded. The peer reads the same file, calls ``predict`` of the same
two estimators and writes keys and predictions. Both are measured in turn in one process; their predictions are
compared.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.ledger.rollout_details import Promoted, RolloutStarted, StageEntered
from benchmarks.cpu_time import cpu_of
from benchmarks.row import Row

ROWS = 1_000_000
TRAINED_ON = 5_000
FEATURES = [f"x{number:02}" for number in range(20)]
FIRST = ("2012-12-30T00:00:00", "2013-01-06T00:00:00", "2013-01-13T00:00:00")
MEASURED = ("2013-01-20T00:00:00", "2013-01-27T00:00:00", "2013-02-03T00:00:00")
BAR = 1.3


def batch_score() -> list[Row]:
    """Return the row of scikit-learn's gradient boosting."""
    return measure("batch_score", "candidates")


def score_lightgbm() -> list[Row]:
    """Return the row of LightGBM."""
    return measure("score_lightgbm", "lightgbm_candidates")


def measure(name: str, function: str, rows: int = ROWS) -> list[Row]:
    """Return the row: CPU seconds of scoring a partition by two versions that a function here gives."""
    for library in ("alembic", "mlflow", "mlflow.store.db.utils"):
        logging.getLogger(library).setLevel(logging.WARNING)
    ours, peer = [], []
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
        versions = TwoVersions(Path(folder), rows, function)
        for number, key in enumerate(MEASURED):
            versions.publish(key, rows, seed=number + len(FIRST))
            peer.append(cpu_of(lambda key=key: versions.score_bare(key)))  # type: ignore[misc]
            ours.append(cpu_of(lambda key=key: versions.score_with_loop(key)))  # type: ignore[misc]
            versions.compare(key)
            print(
                f"\r    round {number + 1}/{len(MEASURED)}: ours {ours[-1]:.2f}, peer {peer[-1]:.2f} CPU s",
                end="",
                flush=True,
            )
    print()
    our_median, peer_median = median(ours), median(peer)
    return [
        Row(
            name=name,
            ours=round(our_median, 3),
            peer=round(peer_median, 3),
            unit="CPU s",
            peer_name="two predicts, a Parquet read and write",
            ratio=round(our_median / peer_median, 3),
            bar=f"ratio <= {BAR:g}",
            reached=our_median <= BAR * peer_median,
        )
    ]


def candidates(seed: int) -> dict[str, Any]:
    """Return one unfitted gradient boosting."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return {"boosting": HistGradientBoostingRegressor(random_state=seed)}


def lightgbm_candidates(seed: int) -> dict[str, Any]:
    """Return one unfitted LightGBM with the settings that give the same model again."""
    from lightgbm import LGBMRegressor

    return {"leaves": LGBMRegressor(n_jobs=1, deterministic=True, force_row_wise=True, random_state=seed, verbose=-1)}


class TwoVersions:
    """A loop on embedded stores with a champion, and a challenger at a canary of 10 %."""

    def __init__(self, folder: Path, rows: int, function: str) -> None:
        from airflow_mlops.core.declaration.loop import Loop
        from airflow_mlops.core.open_workspace import Stores, open_workspace
        from airflow_mlops.core.registry.load import load_version

        self.folder = folder
        (folder / "in").mkdir()
        loop = Loop(
            model="bench",
            owner="bench",
            train={"function": f"{__name__}:{function}", "window": 1},
            gates=[{"metric": "mae", "at_most": 100.0}],
            retrain={"confidence": "none"},  # two versions of the same rows: neither is better
            data={
                "source": {"kind": "parquet", "uri": "in/{partition}.parquet"},
                "key": "id",
                "time": "at",
                "label": "y",
                "limits": {"cells": max(50_000_000, 40 * rows)},
            },
        )
        self.workspace = open_workspace(loop, Stores.embedded(folder / "home"), root=folder, actor="bench")
        for seed, key in enumerate(FIRST):
            self.publish(key, TRAINED_ON, seed)
        champion = self._register(FIRST[1])
        self._record(RolloutStarted(version=champion))
        self._record(Promoted(version=champion))
        challenger = self._register(FIRST[2])
        self._record(RolloutStarted(version=challenger))
        self._record(StageEntered(version=challenger, stage=0, kind="canary", share=10))
        versions = self.workspace.state().versions
        self._models = [load_version(self.workspace, versions[number]) for number in (champion, challenger)]

    def publish(self, key: str, rows: int, seed: int) -> None:
        """Write the file of a partition, and ingest and publish it."""
        from airflow_mlops.core.data.take_snapshot import take_snapshot
        from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
        from airflow_mlops.core.validation.validate_snapshot import ValidatedSnapshot

        random = np.random.default_rng(seed)
        numbers = random.normal(size=(rows, len(FEATURES)))
        end = np.datetime64(key, "us").astype(np.int64)
        columns = {
            "id": pa.array(np.char.add("customer-", np.arange(rows).astype(str))),
            "at": pa.array(end - 1 - random.integers(0, 600_000_000_000, rows), pa.timestamp("us")),
            "y": pa.array(numbers.sum(axis=1) + random.normal(size=rows)),
        }
        pq.write_table(
            pa.table(columns | {name: pa.array(numbers[:, place]) for place, name in enumerate(FEATURES)}),
            self.folder / "in" / f"{key[:10]}.parquet",
        )
        manifest = take_snapshot(self.workspace, key)
        report = self.workspace.evidence.put({})
        publish_snapshot(
            self.workspace,
            manifest,
            ValidatedSnapshot(key, manifest.version, manifest.digest, manifest.rows, manifest.rejected, report),
        )

    def score_with_loop(self, key: str) -> None:
        """Score a partition with the loop."""
        from airflow_mlops.core.rollout.score_partition import score_partition

        score_partition(self.workspace, key)

    def score_bare(self, key: str) -> None:
        """Read, predict and write a partition without the loop."""
        table = pq.read_table(self.folder / "in" / f"{key[:10]}.parquet", columns=["id", *FEATURES])
        features = table.select(FEATURES).to_pandas()
        champion, challenger = (model.predict(features) for model in self._models)
        pq.write_table(pa.table({"id": table["id"], "champion": champion, "challenger": challenger}), self._bare_file)

    def compare(self, key: str) -> None:
        """Assert that both give the same predictions, and that the challenger serves about a tenth of the keys."""
        logged, peer_rows = (
            self.workspace.predictions.read(key).sort_by("key"),
            pq.read_table(self._bare_file).sort_by("id"),
        )
        for column, plain_column in (("champion_prediction", "champion"), ("challenger_prediction", "challenger")):
            np.testing.assert_array_equal(logged[column].to_numpy(), peer_rows[plain_column].to_numpy())
        np.testing.assert_allclose(np.mean(logged["served_version"].to_numpy() == "2"), 0.1, atol=0.02)

    @property
    def _bare_file(self) -> Path:
        return self.folder / "bare.parquet"

    def _register(self, key: str) -> str:
        from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
        from airflow_mlops.core.evaluation.register_candidate import register_candidate
        from airflow_mlops.core.retrain.decide_retrain import decide_and_record
        from airflow_mlops.core.training.assemble import assemble_training
        from airflow_mlops.core.training.fit_candidate import fit_candidate

        decide_and_record(self.workspace, key, trigger="person")
        request = assemble_training(self.workspace, key)
        fits = [fit_candidate(self.workspace, request, name) for name in request.candidates]
        evaluated = evaluate_candidates(self.workspace, request, fits)
        require_gates(self.workspace, request, evaluated)
        return str(register_candidate(self.workspace, request, evaluated)["version"])

    def _record(self, details: RolloutStarted | Promoted | StageEntered) -> None:
        draft = self.workspace.draft(details, f"{details.KIND}:{details.version}", FIRST[2])
        self.workspace.ledger.append(draft, read=self.workspace.state().sequence)
