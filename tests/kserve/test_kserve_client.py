"""KServe's own client asks a gateway over a socket and gets the predictions that ``/predict`` gives."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.test_classes import CLASSES, ClassProject
from tests.contracts.gateway.toy_project import ToyProject, row
from tests.unit.core.toy_loop import toy_rows

HOUSE = Path(__file__).parents[2]
PYTHON = HOUSE / ".venv-kserve" / "bin" / "python"
VALUES = [-2.5, 0.0, 0.1 + 0.2, 3.0]


def ask(gateway: GatewayProcess) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the answers to KServe's client, and the answer of ``/predict`` to the same rows."""
    rows = [row(f"k{place}", x=x, stops=place, paid=True) for place, x in enumerate(VALUES)]
    given = json.dumps({"url": gateway.url, "model": "toy", "token": PREDICT_TOKEN, "rows": rows})
    process = subprocess.run(
        [str(PYTHON), str(Path(__file__).with_name("client.py"))],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout), gateway.predict(rows)


def check_conversation(answers: dict[str, Any]) -> None:
    """Assert that health, identity and errors are as the client expects them."""
    health = {name: answers[name] for name in ("live", "ready", "model_ready", "other_model_ready")}
    assert health == {"live": True, "ready": True, "model_ready": True, "other_model_ready": False}
    assert (answers["id"], answers["model"], answers["versions"]) == ("42", "toy", ["3"])
    assert answers["wrong_model"]["status"] == 404
    assert "toy-x" in answers["wrong_model"]["words"]
    assert answers["wrong_token"]["status"] == 401
    assert answers["missing_column"]["status"] == 422
    assert "row 0: x: is missing" in answers["missing_column"]["words"]


@pytest.mark.parametrize("classes", [0, 2])
def test_numbers_and_two_classes_are_answered_digit_for_digit(tmp_path: Path, classes: int) -> None:
    rows = toy_rows(0)
    model, gates = None, {}
    if classes:
        model = LogisticRegression().fit(rows[["x"]], rows["y"] > 0)
        gates = {"gates": [{"metric": "log_loss", "at_most": 2}]}
    project = ToyProject(tmp_path, **gates)
    try:
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        target.prepare(project.version(3, model))
        target.apply(Traffic(1, "3"))
        answers, expected = ask(gateway)
    finally:
        project.close()
    check_conversation(answers)
    output, *others = answers["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("prediction", "FP64", [len(VALUES)])
    assert output["data"] == expected["predictions"]
    assert len(set(output["data"])) == len(VALUES)
    assert [other["name"] for other in others] == (["probability"] if classes else [])
    assert all(other["data"] == output["data"] for other in others)


def test_three_classes_are_answered_with_the_class_and_a_probability_of_each(tmp_path: Path) -> None:
    project = ClassProject(tmp_path)
    try:
        gateway, _target = project.serve(3)
        answers, expected = ask(gateway)
    finally:
        project.close()
    check_conversation(answers)
    chosen, chances = answers["outputs"]
    assert (chosen["name"], chosen["datatype"], chosen["data"]) == ("prediction", "BYTES", expected["predictions"])
    assert chances["shape"] == [len(VALUES), 3]
    named = [dict(zip(CLASSES, line, strict=True)) for line in np.reshape(chances["data"], (-1, 3)).tolist()]
    assert named == expected["probabilities"]
