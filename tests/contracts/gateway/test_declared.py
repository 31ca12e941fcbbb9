"""A gateway and its declaration: features, masked columns, tokens, and what keeps it from starting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlops.core.data.masking import keyed_hash, mask_key
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.gateway.settings import CONTROL_TOKEN, MASK_SECRET, TOKEN
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import CONTRACT, ToyProject, line, picky, row

SECRET = "a secret of sixteen bytes"
FEATURES = """
def features(frame):
    made = frame[["x"]] * 10
    if (frame["kind"] == "wrong").any():
        raise ValueError("a kind that nobody knows")
    return made

def of_the_past(frame, history):
    return frame[["x"]]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy_features.py").write_text(FEATURES)
    return tmp_path


def serving(project: ToyProject, gateway: GatewayProcess, *, model: object = None) -> Iterator[GatewayProcess]:
    """Yield a gateway with champion 1 and canary 2, at half of the keys."""
    try:
        gateway.start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        target.prepare(project.version(1, model))
        target.prepare(project.version(2))
        target.apply(Traffic(1, "1", "2", "canary", 50.0, "s"))
        yield gateway
    finally:
        project.close()


def test_features_are_made_by_the_declared_function_and_its_error_is_the_rows_own(folder: Path) -> None:
    project = ToyProject(folder, data={"features": "toy_features:features"})
    for gateway in serving(project, project.gateway()):
        result = gateway.predict([row(f"k{number}", x=2.0, at=None) for number in range(40)])
        assert dict(zip(result["versions"], result["predictions"], strict=True)) == {"1": 20.0, "2": 40.0}
        with gateway.client() as client:
            answer = client.post("/predict", json=row(kind="wrong", at=None))
            assert client.post("/predict", json=row()).json()["field"] == "at"
        assert answer.status_code == 503
        assert "a kind that nobody knows" in answer.json()["error"]


def test_a_masked_key_is_split_and_logged_by_its_hash_as_batch_scoring_knows_it(folder: Path) -> None:
    contract = CONTRACT.replace("id: {type: text, nullable: false}", "id: {type: text, nullable: false, mask: true}")
    project = ToyProject(folder, contract=contract)
    gateway = project.gateway()
    gateway.environment = {MASK_SECRET: SECRET}
    keys = [f"passenger-{number}" for number in range(60)]
    for served in serving(project, gateway):
        result = served.predict([row(key) for key in keys])
        served.stop()
        hashes = [keyed_hash(key, mask_key(SECRET, "id")) for key in keys]
        assert [line["key"] for line in served.lines()] == hashes
        in_challenger_share = sticky_share(hashes, salt="s", percent=50.0)
        assert result["versions"] == ["2" if flag else "1" for flag in in_challenger_share]


def start_and_fail(project: ToyProject, *more: str, **environment: str) -> tuple[int, str]:
    """Return the exit code and the standard error of a gateway that cannot start."""
    gateway = project.gateway()
    command = [
        sys.executable,
        "-m",
        "airflow_mlops.gateway",
        str(gateway.loop),
        "--root",
        str(gateway.root),
        "--lake",
        str(gateway.lake),
        "--state-dir",
        str(gateway.state),
        "--log-dir",
        str(gateway.log),
        "--port",
        "0",
        *more,
    ]
    inherited = {name: value for name, value in os.environ.items() if name not in (TOKEN, CONTROL_TOKEN)}
    plugins = str(Path(__file__).parents[3] / "plugins")
    process = subprocess.run(
        command,
        env={**inherited, "PYTHONPATH": plugins, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return process.returncode, process.stderr


def test_it_does_not_start_without_tokens_that_are_long_and_not_the_same(folder: Path) -> None:
    project = ToyProject(folder)
    long = "x" * 16
    for environment, words in (
        ({}, f"set {TOKEN}, name its file, or pass --insecure"),
        ({TOKEN: "short", CONTROL_TOKEN: long}, "has 5 characters"),
        ({TOKEN: long}, CONTROL_TOKEN),
        ({TOKEN: long, CONTROL_TOKEN: long}, "must not be the same"),
    ):
        code, message = start_and_fail(project, **environment)
        assert code == 1
        assert words in message
        assert "Traceback" not in message


def test_it_does_not_start_where_features_need_the_past_or_masking_needs_a_secret(folder: Path) -> None:
    past = ToyProject(folder, data={"features": "toy_features:of_the_past"})
    code, message = start_and_fail(past, "--insecure")
    assert (code, "cannot be served by the gateway" in message) == (1, True)
    masking = ToyProject(folder, contract=CONTRACT.replace("staff: {type: text,", "staff: {type: text, mask: true,"))
    code, message = start_and_fail(masking, "--insecure")
    assert (code, "'staff' is to be masked, and there is no key" in message) == (1, True)


@pytest.mark.parametrize("module", ["httptools", "prometheus_client", "uvicorn", "uvloop"])
def test_without_its_extra_it_ends_in_a_sentence_that_names_the_extra(folder: Path, module: str) -> None:
    (folder / "hidden").mkdir()
    (folder / "hidden" / f"{module}.py").write_text(f"raise ModuleNotFoundError('hidden', name={module!r})")
    plugins = str(Path(__file__).parents[3] / "plugins")
    path = os.pathsep.join([str(folder / "hidden"), plugins])
    code, message = start_and_fail(ToyProject(folder), "--insecure", PYTHONPATH=path)
    words = f"the gateway needs {module}, which is not installed: pip install 'airflow-mlops[gateway]'"
    assert (code, message.strip().splitlines()) == (1, [f"airflow-mlops: {words}"])


def test_where_too_many_rows_wait_further_ones_are_refused_at_once_and_not_logged(folder: Path) -> None:
    project, statuses, lock = ToyProject(folder), Counter[int](), threading.Lock()
    gateway = project.gateway("gateway", "--most-waiting", "3")
    for served in serving(project, gateway, model=picky(1.0)):
        GatewayTarget(project.workspace, [served.url], TELL_TOKEN).rollback(Traffic(2, "1"))

        def ask(number: int, served: GatewayProcess = served) -> None:
            with served.client() as client:
                for _ in range(10):
                    answer = client.post("/predict", json=[row(f"{number}")] * 3)
                    assert answer.status_code == 200 or answer.headers["retry-after"] == "1"
                    with lock:
                        statuses[answer.status_code] += 1

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        served.stop()
        assert set(statuses) == {200, 503}
        assert len(served.lines()) == 3 * statuses[200]


def test_one_number_is_enough_for_a_model_of_one_column(folder: Path) -> None:
    project = ToyProject(folder)
    for gateway in serving(project, project.gateway(), model=line(7)):
        assert {result["prediction"] for result in (gateway.predict(row(f"k{at}")) for at in range(20))} == {7.0, 2.0}
