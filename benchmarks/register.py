"""Measure registering a model of 10 MB, against MLflow's own ``log_model`` and ``register_model``.

Ours makes one version of a judged model file, whatever is retried: with its metrics, its bill of materials, a
signature over all of its files, the files fetched back and verified, the record in the ledger and the alias. The
peer logs the same model in the same format under the same list of types, with explicit requirements, and registers
it. Both are measured in turn in one process, each on a store of its own that is open already. What only the first of
a process pays (imports, making the key, looking at what is installed) is in a row of its own.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cpu_time import cpu_of
from benchmarks.row import Row

ROUNDS = 5
BAR_SECONDS = 1.0
MEGABYTES = 10.0
KEY = "2013-01-06T00:00:00"


def register() -> list[Row]:
    """Return the rows: CPU seconds of a registration, and of verifying and loading a version."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    model = fit_forest()
    ours, peer, loads, verifications = [], [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'peer.db'}")
        mlflow.create_experiment("peer", artifact_location=(folder / "peer").as_uri())
        mlflow.set_experiment("peer")
        registration = OurRegistration(folder, model)
        for number in range(ROUNDS):
            peer.append(cpu_of(lambda: log_and_register(model)))
            ours.append(registration.register_candidate_of(number))
            loads.append(registration.load())
            verifications.append(registration.verify())
            print(f"\r    round {number + 1}/{ROUNDS}", end="", flush=True)
    print(f"\n    {registration.megabytes:.1f} MB; first round: ours {ours[0]:.2f}, peer {peer[0]:.2f} CPU s")
    print(f"    a load {median(loads):.3f} CPU s, of which verifying {median(verifications):.3f}")
    our_median, peer_median = median(ours[1:]), median(peer[1:])
    our_first, peer_first = ours[0], peer[0]
    return [
        Row(
            name="register",
            ours=round(our_median, 3),
            peer=round(peer_median, 3),
            unit="CPU s",
            peer_name="MLflow's log_model and register_model, requirements given",
            ratio=round(our_median / peer_median, 3),
            bar=f"ours <= peer + {BAR_SECONDS:g} CPU s",
            reached=our_median <= peer_median + BAR_SECONDS,
        ),
        Row(
            name="register_first",
            ours=round(our_first, 3),
            peer=round(peer_first, 3),
            unit="CPU s",
            peer_name="the same, the first time in a process",
            ratio=round(our_first / peer_first, 3),
            bar=f"ours <= peer + {BAR_SECONDS:g} CPU s",
            reached=our_first <= peer_first + BAR_SECONDS,
        ),
    ]


def fit_forest() -> Any:
    """Return a forest of 100 trees whose model file has about 10 MB."""
    from sklearn.ensemble import ExtraTreesRegressor

    random = np.random.default_rng(1)
    rows = random.normal(size=(20_000, 20))
    model = ExtraTreesRegressor(n_estimators=100, max_leaf_nodes=700, random_state=0)
    return model.fit(rows, rows.sum(axis=1) + random.normal(size=20_000))


def log_and_register(model: Any) -> None:
    """Log and register the model with MLflow alone."""
    import mlflow
    import mlflow.sklearn

    from airflow_mlops.core.registry.trusted_types import TRUSTED_TYPES

    with mlflow.start_run():
        mlflow.log_metric("holdout_mae", 1.0)
        mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="skops",
            skops_trusted_types=list(TRUSTED_TYPES),
            pip_requirements=["scikit-learn", "skops", "pandas", "numpy"],
            registered_model_name="peer",
        )


class OurRegistration:
    """A loop whose judged candidates are registered: each the same model under another operation."""

    def __init__(self, folder: Path, model: Any) -> None:
        from airflow_mlops.core.declaration.loop import Loop
        from airflow_mlops.core.open_workspace import Stores, open_workspace
        from airflow_mlops.core.registry.model_file import save_model

        fields = {
            "model": "ours",
            "owner": "benchmarks",
            "data": {
                "source": {"kind": "parquet", "uri": "x/{partition}.parquet"},
                "key": "id",
                "time": "at",
                "label": "y",
            },
            "train": {"function": "benchmarks.register:fit_forest", "window": 1},
            "gates": [{"metric": "mae", "at_most": 5}],
        }
        self._workspace = open_workspace(
            Loop(**fields), Stores.embedded(folder / "home"), root=folder, actor="benchmark"
        )
        self._workspace.registry.aliases()
        assert self._workspace.state().sequence == 0
        self._file = folder / "model.skops"
        self._digest = save_model(model, self._file)
        self.megabytes = self._file.stat().st_size / 1e6
        assert abs(self.megabytes - MEGABYTES) < 0.2 * MEGABYTES, self.megabytes

    def register_candidate_of(self, number: int) -> float:
        """Register the candidate of another request; return the CPU seconds."""
        import shutil

        from airflow_mlops.core.evaluation.register_candidate import register_candidate
        from airflow_mlops.core.ledger.training_details import TrainingWindow
        from airflow_mlops.core.training.assemble import TrainingRequest
        from airflow_mlops.core.training.fit_candidate import candidate_file

        operation = f"{number:064x}"
        file = candidate_file(self._workspace, operation, "trees")
        file.parent.mkdir(parents=True)
        shutil.copyfile(self._file, file)
        request = TrainingRequest(
            partition=KEY,
            decision=number,
            function="f",
            source="",
            seed=0,
            window=TrainingWindow((), ()),
            candidates=("trees",),
            profile="0" * 64,
            operation=operation,
        )
        evaluated = {
            "candidate": "trees",
            "digest": self._digest,
            "metrics": {"mae": 1.0},
            "report": "1" * 64,
            "champion": None,
            "fit_seconds": 1.0,
            "rows": 20_000,
        }
        seconds = cpu_of(lambda: register_candidate(self._workspace, request, evaluated))
        assert len(self._workspace.state().versions) == number + 1
        return seconds

    def load(self) -> float:
        """Return the CPU seconds of loading the newest version, its signature verified."""
        from airflow_mlops.core.registry.load import load_version

        newest = self._workspace.state().candidate
        assert newest is not None
        return cpu_of(lambda: load_version(self._workspace, newest))

    def verify(self) -> float:
        """Return the CPU seconds of verifying the newest version."""
        from airflow_mlops.core.registry.load import verified_folder

        newest = self._workspace.state().candidate
        assert newest is not None
        began = time.process_time()
        verified_folder(self._workspace, newest)
        return time.process_time() - began
