"""The gateway serves a version only under the classes that it was fitted on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.lake import Lake
from airflow_mlops.gateway.model_cache import VersionLoader
from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles
from tests.contracts.gateway.toy_project import CONTRACT, ToyProject

FITTED = ("on time", "late")


def load(folder: Path, **declared: object) -> None:
    """Load a version with the classes on time and late in a gateway of a loop with declared ones."""
    contract = CONTRACT.replace("y: {type: float}", "y: {type: text}")
    project = ToyProject(
        folder, contract=contract, data=declared, gates=[{"metric": "log_loss", "at_most": 1}], evaluate={}
    )
    rows = pd.DataFrame({"x": np.linspace(-1, 1, 40)})
    model = make_pipeline(make_column_transformer(("passthrough", ["x"])), LogisticRegression())
    version = project.version(1, model.fit(rows, (rows["x"] > 0).astype(int)), classes=FITTED)
    files = VersionFiles(folder / "kept", Lake.on_disk(project.lake / "toy"), project.workspace.keys)
    loader = VersionLoader(project.workspace.loop, folder, files, secret=None, onnx=False)
    assert version.details.signature is not None
    loader.load(
        ServedVersion(
            version.number, str(version.details.artefact), {**asdict(version.details.signature)}, hidden=(), levels={}
        )
    )


def test_a_version_is_loaded_under_its_own_classes(tmp_path: Path) -> None:
    load(tmp_path, classes=["on time", "late"])


@pytest.mark.parametrize(
    ("declared", "now"),
    [
        ({"classes": ["on time", "late"], "positive": "on time"}, "late, on time"),
        ({"classes": ["late", "cancelled"]}, "late, cancelled"),
    ],
)
def test_a_version_of_other_classes_is_refused(tmp_path: Path, declared: dict[str, object], now: str) -> None:
    words = f"version 1 of toy was fitted on the classes on time, late, and data.classes declares {now}"
    with pytest.raises(RolloutError, match=words):
        load(tmp_path, **declared)
