"""Model files: a fitted model can be loaded again, and no other file is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from airflow_mlops.core.errors import RegistryError, TrainingError
from airflow_mlops.core.registry.model_file import file_digest, load_model, save_model

SOURCE = np.random.default_rng(0)
X = SOURCE.normal(size=(80, 3))
Y = X @ [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        DecisionTreeRegressor(random_state=0),
        HistGradientBoostingRegressor(max_iter=3),
        HistGradientBoostingRegressor(max_iter=3, loss="absolute_error"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_regressor_predicts_the_same_after_it_was_kept(model: Any, tmp_path: Path) -> None:
    digest = save_model(model.fit(X, Y), tmp_path / "m" / "model.skops")
    again = load_model(tmp_path / "m" / "model.skops", digest)
    assert np.array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize(
    "model", [LogisticRegression(), HistGradientBoostingClassifier(max_iter=3)], ids=lambda model: type(model).__name__
)
def test_a_classifier_predicts_the_same_after_it_was_kept(model: Any, tmp_path: Path) -> None:
    digest = save_model(model.fit(X, Y > 0), tmp_path / "model.skops")
    assert np.array_equal(load_model(tmp_path / "model.skops", digest).predict_proba(X), model.predict_proba(X))


def test_a_file_changed_in_any_byte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    digest = save_model(LinearRegression().fit(X, Y), path)
    whole = path.read_bytes()
    for position in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(RegistryError, match=r"model\.skops was changed: its digest is"):
            load_model(path, digest)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RegistryError, match="was changed"):
        load_model(path, digest)


def test_a_file_that_is_gone_is_a_registry_error(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"model\.skops is not there"):
        load_model(tmp_path / "model.skops", "0" * 64)


def fitted_and_kept(path: str) -> str:
    """Fit the same model, save it at ``path`` and return the digest of the file."""
    rows = np.random.default_rng(0).normal(size=(200, 3))
    model = make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=5, random_state=0))
    return save_model(model.fit(rows, rows.sum(axis=1)), Path(path))


def test_the_same_fit_is_the_same_file_in_every_process(tmp_path: Path) -> None:
    # Otherwise a fit run again after a crash would not be the version that the registry made of it before.
    code = (
        "import sys; from tests.unit.core.registry.test_model_file import fitted_and_kept as f; print(f(sys.argv[1]))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "elsewhere.skops")],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout
    assert elsewhere.strip() == fitted_and_kept(str(tmp_path / "here.skops"))


def test_another_fit_is_another_file(tmp_path: Path) -> None:
    digests = [save_model(LinearRegression().fit(X, Y * factor), tmp_path / "m.skops") for factor in (1, 1, 1.5)]
    assert digests[0] == digests[1] != digests[2]


class OfTheUser(LinearRegression):
    """A user's own estimator: a type the project does not trust."""


def test_a_type_outside_the_list_is_refused_when_the_model_is_kept_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"types that are not trusted for loading: .*OfTheUser"):
        save_model(OfTheUser().fit(X, Y), tmp_path / "model.skops")
    assert list(tmp_path.iterdir()) == []


def test_a_type_outside_the_list_is_refused_when_loading_even_with_a_fitting_digest(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(OfTheUser().fit(X, Y), path)
    with pytest.raises(RegistryError, match=r"types that are not trusted: .*OfTheUser"):
        load_model(path, file_digest(path))


def test_an_edited_schema_cannot_smuggle_a_function_in(tmp_path: Path) -> None:
    path, edited = tmp_path / "model.skops", tmp_path / "edited.skops"
    skops.io.dump(FunctionTransformer(np.log), path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(edited, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b'"numpy"', b'"os"').replace(b'"log"', b'"system"'))
    with pytest.raises(RegistryError, match="not trusted"):
        load_model(edited, file_digest(edited))


def test_a_model_that_cannot_be_written_is_a_training_error_and_leaves_no_file(tmp_path: Path) -> None:
    model = LinearRegression().fit(X, Y)
    model.lock_ = threading.Lock()
    with pytest.raises(TrainingError, match=r"the model cannot be kept as a file|not trusted"):
        save_model(model, tmp_path / "model.skops")
    assert list(tmp_path.iterdir()) == []
