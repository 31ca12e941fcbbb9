"""One declaration on three targets: only the word of the target differs, and a challenger goes live on each."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from airflow_mlops.core.ports.signing_keys import KeyFolder
from airflow_mlops.testing.gateway_process import GatewayProcess
from airflow_mlops.testing.sagemaker_server import SageMakerEndpoints
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states, week

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

# What every target is declared with: the word of the target is all that differs.
ROLLOUT = {"stages": [{"shadow": 100}, {"canary": 50}, {"live": 100}], "min_rows": 20, "looks": 2}
BY_ERRORS = [{"metric": "errors", "worse_by": 0.2}]
NO_DRIFT = {"performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}


@contextmanager
def gateway_of(project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayProcess]:
    """Run a gateway beside the embedded stores of this session, and let Airflow know it by its connection."""
    home = Path(os.environ["AIRFLOW_HOME"]) / "mlops"
    signing, keys = KeyFolder(home / "keys"), folder / "trusted.pem"
    signing.private()  # made by the first model that is signed, which may come later
    keys.write_text("".join(signing.trusted().values()))
    declared = project.root / "include" / "loops" / f"{project.model}.yaml"
    gateway = GatewayProcess(declared, project.root, home / "lake", folder / "gateway", [keys])
    gateway.start()
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_GATEWAY", gateway.connection)
    try:
        yield gateway
    finally:
        gateway.stop()


@contextmanager
def traffic(ask: Callable[[dict[str, Any]], object]) -> Iterator[list[dict[str, Any]]]:
    """Ask for predictions without a pause, row after row of a week, until the block ends; yields what was asked."""
    rows = week(KEYS[5], rows=400, level=6.0).drop_columns(["y"]).to_pylist()
    requests: list[dict[str, Any]] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            row = {**rows[len(requests) % len(rows)], "id": f"live-{len(requests)}"}
            ask({**row, "at": row["at"].isoformat()})
            requests.append(row)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield requests
    finally:
        over.set()
        worker.join()


def challenged(project: Project, scheduler: InProcessScheduler) -> None:
    """Bring a first champion live, and then a challenger to the beginning of its rollout."""
    project.first_champion(scheduler, KEYS[:2])
    for key in KEYS[2:4]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)


def run_through(scheduler: InProcessScheduler, project: Project, *, rounds: int = 12) -> None:
    """Fire triggers and resume tasks until no rollout is under way."""
    for _ in range(rounds):
        if project.workspace.state().rollout is None:
            return
        scheduler.run_triggers(timeout_seconds=30)
        scheduler.run_until_idle()


def test_batch_goes_live_on_the_labels_of_partitions(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project = make_project(tmp_path, watch=NO_DRIFT, rollout={"target": "batch", **ROLLOUT})
    scheduler = start_scheduler(project.dags)
    challenged(project, scheduler)
    assert_went_live(scheduler, project)


def test_the_gateway_goes_live_on_requests_and_waits_without_a_worker_slot(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, watch=NO_DRIFT, rollout={"target": "gateway", **ROLLOUT, "metrics": BY_ERRORS})
    with gateway_of(project, tmp_path, monkeypatch) as gateway:
        scheduler = start_scheduler(project.dags)
        challenged(project, scheduler)
        assert_waits(scheduler, project)
        with gateway.client() as client, traffic(lambda row: answered(client, row)) as requests:
            run_through(scheduler, project)
        assert_went_live(scheduler, project)
        routed = gateway.control("GET", "traffic").json()["traffic"]
        assert (routed["champion"], routed["challenger"]) == ("2", None)
        gateway.stop()
        served = [line["version"] for line in gateway.lines()]
        assert len(served) == len(requests)
        assert set(served) == {"1", "2"}


def test_sagemaker_goes_live_on_invocations_and_waits_without_a_worker_slot(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, watch=NO_DRIFT, rollout={"target": "sagemaker", **ROLLOUT, "metrics": BY_ERRORS})
    serving = {
        "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1",
        "role": "arn:aws:iam::123456789012:role/serve",
        "storage": "s3://serving/models",
        "poll_seconds": 0.05,
        "wait_minutes": 0.5,
    }
    with SageMakerEndpoints(tmp_path / "sagemaker.out") as aws:
        monkeypatch.setenv("AIRFLOW_CONN_MLOPS_SAGEMAKER", aws.connection(serving=serving))
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=aws.url, **keys).create_bucket(Bucket="serving")
        scheduler = start_scheduler(project.dags)
        challenged(project, scheduler)
        assert_waits(scheduler, project)
        runtime = boto3.client("sagemaker-runtime", endpoint_url=aws.url, **keys)
        for _ in range(2):  # a stage after another; the minutes in which traffic changes are not counted
            (endpoint,) = aws.ask("state")["Endpoint"]
            aws.ask("advance", seconds=60)
            for _ in range(150):
                runtime.invoke_endpoint(EndpointName=endpoint, Body=b"{}")
            aws.ask("advance", seconds=60)
            run_through(scheduler, project, rounds=1)
        assert_went_live(scheduler, project)
        (variant,) = next(iter(aws.ask("state")["Endpoint"].values()))["ProductionVariants"]
        assert (variant["VariantName"], variant["CurrentWeight"]) == ("version-2", 1.0)


def answered(client: httpx.Client, row: dict[str, Any]) -> None:
    answer = client.post("/predict", json=row)
    assert answer.status_code == 200, answer.text


def assert_waits(scheduler: InProcessScheduler, project: Project) -> None:
    """Assert that the first stage waits for requests, in the triggerer."""
    assert states(scheduler, project.dag("rollout")) == {
        "start": "success",
        "shadow_100.enter": "success",
        "shadow_100.analyse": "deferred",
        "canary_50.enter": None,
        "canary_50.analyse": None,
        "live_100.promote": None,
    }, scheduler.failures()


def assert_went_live(scheduler: InProcessScheduler, project: Project) -> None:
    """Assert that version 2 is the champion after all its stages, and that nothing of the loop is out of order."""
    assert project.workspace.registry.aliases() == {"champion": "2"}, scheduler.failures()
    entered = [each.details.kind for each in project.of_kind("stage_entered") if each.details.version == "2"]
    assert entered == ["shadow", "canary"]
    ended = states(scheduler, project.dag("rollout"))
    assert set(ended.values()) == {"success"}, ended
    assert_invariants(project.workspace)
