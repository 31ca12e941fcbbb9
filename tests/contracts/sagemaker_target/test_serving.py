"""An endpoint serves the applied traffic, in idempotent steps, and reports if SageMaker serves something else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import TargetError, Traffic
from tests.contracts.sagemaker_target.place import Place

FIRST = Traffic(order=3, champion="1")
CANARY = Traffic(order=5, champion="1", challenger="2", kind="canary", share=10, salt="toy/5")


def start(place: Place, *more: Traffic) -> None:
    """Serve version 1, and then further traffic."""
    for number in ("1", "2"):
        place.target.prepare(place.version(number))
    for traffic in (FIRST, *more):
        place.target.apply(traffic)


def test_a_challenger_is_moved_from_a_canary_to_live_and_nothing_is_left_of_the_champion_before(place: Place) -> None:
    assert place.target.observe() == Traffic(0, None)
    start(place, CANARY)
    assert place.target.observe() == CANARY
    answered = Counter(place.invoke(300))
    assert set(answered) == {"version-1", "version-2"}
    assert 10 < answered["version-2"] < 60
    half = replace(CANARY, order=7, share=50)
    place.target.apply(half)
    assert place.target.observe() == half
    live = Traffic(order=9, champion="2")
    place.target.apply(live)
    assert set(place.invoke(20)) == {"version-2"}
    place.target.finalize(live)
    assert place.weights() == {"version-2": 1.0}
    state = place.aws.ask("state")
    assert [name.split("-v")[1][0] for name in state["Model"]] == ["2"]
    assert list(state["EndpointConfig"]) == [place.endpoint()["EndpointConfigName"]]
    # From a canary to twice its share, and on to live, only weights changed: seconds and not minutes.
    assert place.aws.count("UpdateEndpoint") == 2
    assert place.target.observe() == live


def test_going_live_needs_no_new_config_and_the_champion_before_can_be_kept_warm_to_switch_back(place: Place) -> None:
    standby = replace(CANARY, kind="standby", share=100)
    start(place, standby)
    assert place.target.observe() == standby
    assert set(place.invoke(30)) == {"version-1"}
    live = Traffic(order=9, champion="2", standby="1")
    place.target.apply(live)
    place.target.finalize(live)
    assert place.weights() == {"version-1": 0.0, "version-2": 1.0}
    back = Traffic(order=11, champion="1")
    place.target.rollback(back)
    assert set(place.invoke(30)) == {"version-1"}
    assert (place.aws.count("UpdateEndpoint"), place.target.observe()) == (1, back)


def test_a_rollback_changes_weights_alone_and_needs_neither_the_registry_nor_the_challenger(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(place, CANARY)
    before = Counter(call for call, _ in place.aws.ask("state")["calls"])
    monkeypatch.setattr(place.workspace.registry, "fetch", lambda *_: pytest.fail("the registry was asked"))
    back = Traffic(order=8, champion="1")
    place.another_try().rollback(back)
    after = Counter(call for call, _ in place.aws.ask("state")["calls"]) - before
    changes = {call: times for call, times in after.items() if call.startswith(("Update", "Create"))}
    assert changes == {"UpdateEndpointWeightsAndCapacities": 1}
    assert place.weights() == {"version-1": 1.0, "version-2": 0.0}
    assert place.target.observe() == back
    place.target.finalize(back)
    assert place.weights() == {"version-1": 1.0}


def test_nobody_waits_for_a_standby_that_is_not_on_the_endpoint_any_more(place: Place) -> None:
    start(place, CANARY)
    back = Traffic(order=8, champion="1", standby="7")
    place.another_try().rollback(back)
    assert place.target.observe() == replace(back, standby=None)
    place.target.finalize(back)
    assert (place.weights(), place.aws.count("UpdateEndpoint")) == ({"version-1": 1.0}, 2)


def test_a_rollback_with_a_challenger_is_refused(place: Place) -> None:
    with pytest.raises(RolloutError, match="a rollback has no challenger; this one has version 2"):
        place.target.rollback(CANARY)


def test_a_deployment_that_sagemaker_rolled_back_is_an_error_that_names_both_configs_and_the_reason(
    place: Place,
) -> None:
    start(place)
    first = place.endpoint()["EndpointConfigName"]
    place.aws.ask("fail", reason="The container did not pass the ping health check.")
    with pytest.raises(TargetError) as caught:
        place.target.apply(CANARY)
    message = str(caught.value)
    (second,) = set(place.aws.ask("state")["EndpointConfig"]) - {first}
    assert f"was to serve config {second} and serves {first}" in message
    assert "did not pass the ping health check" in message
    assert place.endpoint()["EndpointStatus"] == "InService"
    # Of what it was told it says nothing: it has not come to serve it.
    assert place.target.observe() == FIRST
    # Trying again is asking again: the config of the first try is adopted.
    place.another_try().apply(CANARY)
    assert (place.target.observe(), len(place.aws.ask("state")["EndpointConfig"])) == (CANARY, 2)


def test_weights_that_sagemaker_took_back_are_an_error_too(place: Place) -> None:
    start(place, CANARY)
    place.aws.ask("fail", reason="Scaling failed.")
    with pytest.raises(TargetError, match=r"to have version-1 at 0\.5, version-2 at 0\.5 and has .*\(Scaling failed"):
        place.target.apply(replace(CANARY, order=7, share=50))
    assert place.target.observe() == CANARY


def test_a_second_try_makes_no_second_archive_model_config_or_endpoint(place: Place) -> None:
    start(place, CANARY)
    keys = [variant["Key"] for variant in place.client("s3").list_objects_v2(Bucket="serving")["Contents"]]
    again = place.another_try()
    for _ in range(2):
        for number in ("1", "2"):
            again.prepare(place.version(number))
        again.apply(CANARY)
        again.finalize(CANARY)
    calls = Counter(call for call, _ in place.aws.ask("state")["calls"])
    assert [calls[f"Create{kind}"] for kind in ("Model", "EndpointConfig", "Endpoint")] == [2, 2, 1]
    assert (calls["UpdateEndpoint"], calls["UpdateEndpointWeightsAndCapacities"]) == (1, 1)
    assert [variant["Key"] for variant in place.client("s3").list_objects_v2(Bucket="serving")["Contents"]] == keys
