"""The gateway answers as its own OpenAPI document says: to good, wrong and malformed requests, by every method.

Schemathesis makes the requests from the document, always the same ones, and holds each answer to it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline

from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject

ROOT = Path(__file__).parents[3]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
EXAMPLES = "60"
CONTROL = "^/control/"
TOKENS = f"""
[auth.openapi.predictions]
bearer = "{PREDICT_TOKEN}"
[auth.openapi.control]
bearer = "{TELL_TOKEN}"
[parameters]
"path.version" = "3"
"""
# JSON schema cannot say that columns are of one length, nor which versions are in the lake.
UNDESCRIBED = """
[[operations]]
include-path-regex = "(/infer$|^/invocations$|^/control/)"
checks.positive_data_acceptance.enabled = false
"""


def model_of_any_row() -> Pipeline:
    """Return a model that predicts rows whose values are missing, as the contract allows."""
    return make_pipeline(SimpleImputer(), LinearRegression()).fit(pd.DataFrame({"x": [0.0, 1.0]}), [0.0, 3.0])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[GatewayProcess]:
    """Yield a gateway that serves a version."""
    project = ToyProject(tmp_path)
    project.version(3, model_of_any_row())
    gateway, _target = project.serve(3)
    yield gateway
    project.close()


def described(gateway: GatewayProcess, folder: Path) -> Path:
    """Return the OpenAPI document of a gateway as a file."""
    with gateway.client() as client:
        document = client.get("/openapi.json").json()
    file = folder / "openapi.json"
    file.write_text(json.dumps(document))
    return file


def ask(gateway: GatewayProcess, folder: Path, *which: str) -> str:
    """Return the report of schemathesis on the paths that are asked for; fail unless every answer was right."""
    config = folder / "schemathesis.toml"
    config.write_text(TOKENS + UNDESCRIBED)
    command = [str(SCHEMATHESIS), "--config-file", str(config), "run", str(described(gateway, folder))]
    command += ["--url", gateway.url, *which, "--generation-deterministic", "--max-examples", EXAMPLES]
    command += [
        "--phases",
        "examples,coverage,fuzzing",
        "--no-color",
        "--workers",
        "1",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.contracts.gateway.described_bodies",
    }
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def cases(output: str) -> int:
    """Return the number of requests that were made."""
    (number,) = re.findall(r"(\d+) generated", output)
    return int(number)


def test_every_path_that_predicts_or_is_read_answers_as_described(served: GatewayProcess, tmp_path: Path) -> None:
    output = ask(served, tmp_path, "--exclude-path-regex", CONTROL)
    assert "Tested: 17" in output
    assert cases(output) > 400
    with served.client() as client:
        assert client.get("/ready").status_code == 200


def test_every_path_of_control_answers_as_described(served: GatewayProcess, tmp_path: Path) -> None:
    output = ask(served, tmp_path, "--include-path-regex", CONTROL)
    assert "Tested: 5" in output
    assert cases(output) > 150
    with served.client(TELL_TOKEN) as client:
        assert client.get("/control/traffic").status_code == 200


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    project = ToyProject(tmp_path_factory.mktemp("toy"))
    gateway, _target = project.serve(3)
    yield gateway
    project.close()


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/control/prepare", "PUT"),
        ("/control/traffic", "PUT, GET, HEAD"),
        ("/control/telemetry", "GET, HEAD"),
    ],
)
def test_another_method_of_control_is_405_with_the_allowed_ones(toy: GatewayProcess, path: str, allow: str) -> None:
    with toy.client(TELL_TOKEN) as client:
        answer = client.request("PATCH", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allow)
        assert (client.request("HEAD", path).status_code == 200) == ("HEAD" in allow)
    with toy.client(None) as client:
        assert client.request("PATCH", path).status_code == 401


@pytest.mark.parametrize("traffic", ["5", "[[]]", "[1]", '"3"', "true", "0", "[]"])
@pytest.mark.parametrize("path", ["/control/traffic", "/control/finalize"])
def test_traffic_that_is_no_object_is_refused_by_its_name(toy: GatewayProcess, path: str, traffic: str) -> None:
    with toy.client(TELL_TOKEN) as client:
        answer: httpx.Response = client.put(
            path, content=f'{{"traffic": {traffic}}}', headers={"content-type": "application/json"}
        )
    assert (answer.status_code, answer.json()["error"].startswith("traffic ")) == (422, True), answer.text
