"""Older traffic is refused, also from a call that began before the newer traffic came."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import OlderTrafficError, TargetError, Traffic
from airflow_mlops.core.rollout.targets.sagemaker.traffic_tags import AppliedTraffic
from tests.contracts.sagemaker_target.place import Place
from tests.contracts.sagemaker_target.test_serving import CANARY, FIRST, start


def test_older_traffic_is_refused_by_every_method_and_changes_nothing(place: Place) -> None:
    back = Traffic(order=8, champion="1")
    start(place, CANARY)
    place.target.rollback(back)
    for late in (place.target.apply, place.target.rollback, place.target.finalize):
        with pytest.raises(OlderTrafficError, match="record 3 is older than record 8"):
            late(FIRST)
    with pytest.raises(OlderTrafficError, match="record 5 is older than record 8"):
        place.target.apply(CANARY)
    assert (place.target.observe(), place.weights()["version-2"]) == (back, 0.0)


def test_the_same_record_cannot_say_two_things(place: Place) -> None:
    start(place, CANARY)
    with pytest.raises(OlderTrafficError, match=r"record 5 has already set other traffic: share 10\.0 and now 50"):
        place.target.apply(replace(CANARY, share=50))
    assert place.target.observe() == CANARY


def test_a_canary_under_way_stops_when_it_is_rolled_back_meanwhile(place: Place) -> None:
    start(place)
    place.aws.ask("slow", seconds=1.0)
    raised: list[BaseException] = []
    other = place.another_try()

    def late() -> None:
        try:
            other.apply(CANARY)
        except OlderTrafficError as error:
            raised.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    while place.endpoint()["EndpointStatus"] != "Updating":
        thread.join(0.02)
    back = Traffic(order=8, champion="1")
    place.target.rollback(back)
    thread.join()
    assert [str(error) for error in raised] == ["record 5 is older than record 8, which the endpoint has"]
    assert place.target.observe() == back
    assert place.weights()["version-1"] == 1.0
    assert sum(place.weights().values()) == 1.0


def test_a_call_that_overtakes_a_rollback_by_milliseconds_is_put_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(place, CANARY)
    back, other, late = Traffic(order=8, champion="1"), place.another_try(), place.target
    usual = late.endpoint.update_variants

    def overtaken(changes: Any) -> Any:
        # The tags were looked at, and the call is not made yet.
        other.rollback(back)
        monkeypatch.setattr(late.endpoint, "update_variants", usual)
        return usual(changes)

    monkeypatch.setattr(late.endpoint, "update_variants", overtaken)
    with pytest.raises(OlderTrafficError, match="record 7 is older than record 8"):
        late.apply(replace(CANARY, order=7, share=50))
    assert place.weights() == {"version-1": 1.0, "version-2": 0.0}
    assert place.target.observe() == back


def test_a_change_that_takes_too_long_is_told_with_its_limit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    start(place)
    place.aws.ask("slow", seconds=60.0)
    target = place.target
    target.endpoint.wait_seconds = 0.3
    with pytest.raises(TargetError, match=r"still Updating after 0\.005 minutes; it may get ready yet"):
        target.apply(CANARY)
    assert place.target.observe() == FIRST


def test_a_weight_that_somebody_changed_by_hand_is_seen(place: Place) -> None:
    start(place)
    place.target.apply(CANARY)
    name = place.endpoint()["EndpointName"]
    place.client().update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "version-1", "DesiredWeight": 1.0},
            {"VariantName": "version-2", "DesiredWeight": 3.0},
        ],
    )
    assert place.target.observe() == replace(CANARY, share=75.0)
    place.target.apply(CANARY)
    assert place.target.observe() == CANARY


@pytest.mark.parametrize("traffic", [replace(CANARY, salt="a b=c/~%@é", share=33.3), replace(FIRST, standby="7")])
def test_what_an_endpoint_is_told_comes_back_from_its_tag(traffic: Traffic) -> None:
    applied = AppliedTraffic(traffic, since=1.5e9)
    assert AppliedTraffic.from_tag(applied.tag()) == applied
    assert set(applied.tag()["Value"]) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _.:/=+-@")


def test_what_does_not_fit_into_a_tag_is_refused() -> None:
    with pytest.raises(RolloutError, match="the traffic of record 5 does not fit into a tag"):
        AppliedTraffic(replace(CANARY, salt="x" * 300)).tag()
