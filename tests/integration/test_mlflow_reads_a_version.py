"""MLflow's own tools read the versions of a loop, in a process of their own, and the loop goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.registry.verify_version import verify_version
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, train, week

CONTRACT = """
contract: toy
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time}
  x: {type: float}
  stops: {type: int, nullable: false}
  seats: {type: int}
  paid: {type: bool, nullable: false}
  kind: {type: text, nullable: false}
  staff: {type: text, feature: false, privacy: personal}
  guest: {type: text, nullable: false, privacy: personal, mask: true}
  y: {type: float}
"""
READ = """
import json, sys
import mlflow, pandas as pd
from mlflow.exceptions import MlflowException

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/toy@champion")
example = model.input_example
refused = {}
for name, rows in {
    "missing": example.drop(columns="x"),
    "wrong": example.assign(x=["one"] * len(example)),
    "whole": example.assign(stops=0.5),
}.items():
    try:
        model.predict(rows)
        refused[name] = None
    except MlflowException as error:
        refused[name] = str(error)
mlflow.pyfunc.get_model_dependencies("models:/toy@champion")
print(json.dumps({
    "inputs": {column.name: column.type.name for column in model.metadata.get_input_schema().inputs},
    "output": [column.type.name for column in model.metadata.get_output_schema().inputs],
    "example": example.to_dict("records"),
    "predictions": [float(value) for value in model.predict(example)],
    "refused": refused,
}))
"""


def candidates(seed: int) -> dict[str, Any]:
    """Return one candidate on numbers, truth values, texts and masks."""
    assert seed == 0
    numbers = ("numbers", "passthrough", ["x", "stops", "paid"])
    texts = ("texts", OneHotEncoder(handle_unknown="ignore"), ["kind", "guest"])
    return {"line": make_pipeline(ColumnTransformer([numbers, texts]), LinearRegression())}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a loop on the stores of one machine whose champion is version 1."""
    loop = toy_loop(
        train={"function": f"{__name__}:candidates", "window": 2},
        rollout={"stages": [{"shadow": 100}, {"live": 100}]},
        data={
            "source": {"kind": "parquet", "uri": "toy/{partition}.parquet"},
            "key": "id",
            "time": "at",
            "label": "y",
            "contract": "contract.yaml",
        },
    )
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    (tmp_path / "toy").mkdir()
    stores = Stores.embedded(tmp_path / "home")
    opened = open_workspace(
        loop, Stores(**{**vars(stores), "secret": "a secret of the tests"}), root=tmp_path, actor="tests"
    )
    for number in range(4):
        rows = toy_rows(number)
        source = np.random.default_rng(number)
        rows["stops"] = source.integers(0, 3, len(rows))
        rows["seats"] = pd.array([None, *source.integers(0, 200, len(rows) - 1)], "Int64")
        rows["paid"] = rows["stops"] > 1
        rows["staff"] = "Ann Miller"
        rows["guest"] = source.choice(["Bob Smith", "Eve Jones"], len(rows))
        rows["at"] = rows["at"].dt.tz_localize("UTC")
        rows.to_parquet(tmp_path / "toy" / f"{week(number)[:10]}.parquet")
        ingest(opened, week(number))
    go_live(opened, week(2))
    return opened


def read_by_mlflow(folder: Path) -> dict[str, Any]:
    """Return the champion as a process with MLflow alone reads it."""
    code = folder / "read.py"
    code.write_text(READ)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    uri = Stores.embedded(folder / "home").tracking_uri
    done = subprocess.run(
        [sys.executable, str(code), uri], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_mlflow_reads_the_champion_and_the_loop_verifies_loads_and_rolls_out_after_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    result = read_by_mlflow(tmp_path)

    # The note is there, so the rest of this test is about a registry that MLflow has written to.
    assert list((tmp_path / "home").rglob("registered_model_meta"))
    champion = workspace.state().champion
    assert champion is not None
    for in_registry in (True, False):
        report = verify_version(workspace, champion, in_registry=in_registry)
        assert (report.signed, report.verified) == (True, True), report.reason
    train(workspace, week(3))
    version = start_rollout(workspace, week(3))
    score_partition(workspace, week(3))
    for index in range(len(workspace.loop.rollout.stages)):
        run_rollout_step(workspace, version, index, week(3))
    served = workspace.state().champion
    assert served is not None
    assert (champion.number, served.number) == ("1", "2")
    assert verify_version(workspace, champion, in_registry=True).verified

    # The signature: the columns that the model sees, and no key, time, label or hidden column.
    assert result["inputs"] == {
        "guest": "string",
        "kind": "string",
        "paid": "boolean",
        "seats": "double",
        "stops": "long",
        "x": "double",
    }
    assert result["output"] == ["double"]
    assert "Model is missing inputs ['x']" in result["refused"]["missing"]
    assert "Incompatible input types for column x" in result["refused"]["wrong"]
    assert "Incompatible input types for column stops" in result["refused"]["whole"]

    # The example: rows of the holdout that the model predicts, without a plain name.
    assert 0 < len(result["example"]) <= 5
    assert not {"Ann Miller", "Bob Smith", "Eve Jones"} & {value for row in result["example"] for value in row.values()}
    model = load_version(workspace, champion)
    frame = pd.DataFrame(result["example"]).astype({"x": float, "seats": float})
    assert np.asarray(model.predict(frame)).tolist() == result["predictions"]
    holdout = workspace.snapshots.read(week(2)).to_pandas()
    assert set(frame["x"]) <= set(holdout["x"])
    assert set(frame["guest"]) <= set(holdout["guest"])


def test_a_file_that_is_no_note_of_mlflow_is_refused_in_the_registry_that_it_reads(
    workspace: Workspace, tmp_path: Path
) -> None:
    champion = workspace.state().champion
    assert champion is not None
    (model,) = (path for path in (tmp_path / "home").rglob("MLmodel") if "artifacts" in path.parts)
    (model.parent / "registered_model_meta").write_text(
        "model_name: toy\nmodel_version: '1'\n!!python/name:os.system\n"
    )
    report = verify_version(workspace, champion, in_registry=True)
    assert not report.verified
    assert "registered_model_meta was added" in report.reason


def test_no_rows_are_shown_where_a_model_sees_a_sensitive_column(workspace: Workspace, tmp_path: Path) -> None:
    named = CONTRACT.replace("kind: {type: text,", "kind: {type: text, privacy: sensitive,")
    named = named.replace("personal, mask: true}", "none}")
    assert "sensitive" in named
    assert "mask" not in named
    other = open_workspace(
        workspace.loop.model_copy(update={"model": "named"}),
        Stores.embedded(tmp_path / "other"),
        root=tmp_path,
        actor="tests",
    )
    (tmp_path / "contract.yaml").write_text(named)
    for number in range(3):
        ingest(other, week(number))
    train(other, week(2))
    (model,) = (path for path in (tmp_path / "other").rglob("MLmodel") if "artifacts" in path.parts)
    assert '"kind"' in model.read_text()
    assert not list(model.parent.glob("*input_example*"))
