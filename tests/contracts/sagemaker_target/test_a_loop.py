"""A loop that declares ``target: sagemaker`` serves its versions by an endpoint, as with any other target."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlops.core.errors import NotReadyError, RolledBackError
from airflow_mlops.core.rollout.reconcile_target import reconcile_target
from airflow_mlops.core.rollout.roll_out import enter_stage, run_rollout_step, start_rollout
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.hooks.ports import rollout_target
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.contracts.sagemaker_target.place import BUCKET, Place
from tests.integration.test_classes import THREE, make_loop
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week

ROLLOUT = {
    "target": "sagemaker",
    "stages": [{"shadow": 50}, {"canary": 20}, {"live": 100}],
    "metrics": [{"metric": "errors", "worse_by": 0.2, "at_most": 0.3}],
    "min_rows": 50,
    "looks": 2,
}


@pytest.fixture
def loop(place: Place, tmp_path: Path) -> Workspace:
    """Return a loop whose version 1 is live on the endpoint, and whose version 2 is a candidate."""
    rows = {week(number): toy_rows(number) for number in range(4)}
    opened = in_memory_workspace(toy_loop(rollout=ROLLOUT), rows, scratch=tmp_path / "loop")
    workspace = Workspace(
        opened.loop, opened.root, opened.scratch, replace(opened.ports, target=rollout_target), "person:ann"
    )
    for number in range(4):
        ingest(workspace, week(number))
    train(workspace, week(2))
    roll_out(workspace, 2)
    train(workspace, week(3))
    assert workspace.state().champion is not None
    return workspace


def roll_out(workspace: Workspace, number: int) -> None:
    """Roll the candidate out without a champion to compare it with."""
    version = start_rollout(workspace, week(number))
    for index in range(3):
        run_rollout_step(workspace, version, index, week(number))


def send_requests(place: Place, requests: int) -> None:
    """Send requests in a minute of their own, so that CloudWatch counts all of them."""
    place.aws.ask("advance", seconds=60)
    place.invoke(requests)
    place.aws.ask("advance", seconds=60)


def passed(place: Place, workspace: Workspace, version: str, index: int) -> None:
    """Send requests until a stage has its sample."""
    for _ in range(20):
        send_requests(place, 400)
        try:
            run_rollout_step(workspace, version, index, week(3))
        except NotReadyError as held:
            message = str(held)
        else:
            return
    pytest.fail(message)


def test_a_good_version_goes_live_and_the_endpoint_says_the_same_as_the_ledger(place: Place, loop: Workspace) -> None:
    assert place.weights() == {"version-1": 1.0}
    version = start_rollout(loop, week(3))
    for index, weights in ((0, {"version-1": 1.0}), (1, {"version-1": 0.8, "version-2": 0.2})):
        enter_stage(loop, version, index, week(3))
        assert place.weights() == pytest.approx(weights)
        passed(place, loop, version, index)
    run_rollout_step(loop, version, 2, week(3))
    assert place.weights() == {"version-2": 1.0}
    assert reconcile_target(loop) == []


def test_a_version_that_breaks_is_taken_back_at_its_canary(place: Place, loop: Workspace) -> None:
    version = start_rollout(loop, week(3))
    enter_stage(loop, version, 0, week(3))
    passed(place, loop, version, 0)
    enter_stage(loop, version, 1, week(3))
    place.aws.ask("predictor", model="-v2-", status=500)
    send_requests(place, 400)
    with pytest.raises(RolledBackError, match="canary_20"):
        run_rollout_step(loop, version, 1, week(3))
    assert set(place.invoke(50)) == {"version-1"}
    assert place.target.observe().champion == "1"
    assert reconcile_target(loop) == []


def test_a_version_of_three_classes_reaches_the_endpoint_with_their_names(place: Place, tmp_path: Path) -> None:
    made = make_loop(tmp_path, THREE, rollout=ROLLOUT)
    workspace = replace(made, ports=replace(made.ports, target=rollout_target))
    for number in range(3):
        ingest(workspace, week(number))
    train(workspace, week(2))
    roll_out(workspace, 2)
    assert place.weights() == {"version-1": 1.0}
    (model,) = place.aws.ask("state")["Model"].values()
    key = model["PrimaryContainer"]["ModelDataUrl"].removeprefix(f"s3://{BUCKET}/")
    content = place.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.extractfile("classes.json")
        assert names is not None
        assert json.load(names) == THREE
