"""The environment of ``requirements-gateway.lock``: no Airflow, no MLflow, and the very same answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import TELL_TOKEN
from tests.contracts.gateway.toy_project import ToyProject, picky, row
from tests.unit.core.toy_loop import toy_rows

HOUSE = Path(__file__).parents[2]
PYTHON = HOUSE / ".venv-gateway" / "bin" / "python"
HEAVY = {"airflow", "mlflow", "deltalake", "sqlalchemy", "great_expectations", "sagemaker"}
NEEDED = (
    "core.declaration.loop",
    "core.errors",
    "core.ports.rollout_target",
    "gateway.server",
    "gateway.shadow_process",
    "gateway.onnx_model",
)


def installed_distributions() -> set[str]:
    """Return the distributions of the environment, by name."""
    code = "import importlib.metadata as m, json; print(json.dumps([d.name.lower() for d in m.distributions()]))"
    output = subprocess.run([str(PYTHON), "-c", code], check=True, capture_output=True, text=True).stdout
    return set(json.loads(output))


def imported_packages(python: Path | str) -> set[str]:
    """Return the packages that an interpreter has imported once it has imported the gateway; a warning fails it."""
    lines = [f"import airflow_mlops.{name}" for name in NEEDED]
    code = "; ".join(
        [
            "import sys, json",
            f"sys.path.insert(0, {str(HOUSE / 'plugins')!r})",
            *lines,
            "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))",
        ]
    )
    process = subprocess.run([str(python), "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    return set(json.loads(process.stdout))


def test_neither_airflow_nor_mlflow_is_there_and_the_gateway_is_imported_all_the_same() -> None:
    assert (
        not {"apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk", "mlflow", "deltalake"}
        & installed_distributions()
    )
    assert {"airflow_mlops", "uvicorn", "msgspec"} <= imported_packages(PYTHON)


def test_where_they_are_there_the_gateway_imports_none_of_them() -> None:
    assert not HEAVY & imported_packages(sys.executable)


@pytest.mark.parametrize("shadow", [False, True])
def test_a_gateway_there_says_what_one_here_says_digit_for_digit(tmp_path: Path, shadow: bool) -> None:
    rows = toy_rows(0)
    boosting = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(rows[["x"]], rows["y"])
    rows_to_predict = [row(f"k{number}", x=float(x)) for number, x in enumerate(rows["x"])]
    project, answers = ToyProject(tmp_path), []
    try:
        for name, python in (("here", Path(sys.executable)), ("there", PYTHON)):
            gateway = project.gateway(name)
            gateway.python = python
            target = GatewayTarget(project.workspace, [gateway.start().url], TELL_TOKEN)
            target.prepare(project.version(1, boosting))
            target.prepare(project.version(2, picky(2.0)))
            kind = "shadow" if shadow else "canary"
            target.apply(Traffic(1, "1", "2", kind, 50.0, "s"))  # type: ignore[arg-type]
            answers.append(gateway.predict(rows_to_predict))
            assert gateway.control("GET", "traffic").json()["problem"] is None
    finally:
        project.close()
    assert answers[0] == answers[1]
    assert set(answers[0]["versions"]) == ({"1"} if shadow else {"1", "2"})
