"""A shadow gets copies and answers no request, and the telemetry of CloudWatch matches the requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, Traffic
from tests.contracts.sagemaker_target.place import Place
from tests.contracts.sagemaker_target.test_serving import CANARY, start

SHADOW = replace(CANARY, kind="shadow", share=50)


def test_a_shadow_sees_its_share_of_the_requests_and_answers_none(place: Place) -> None:
    start(place, SHADOW)
    assert place.target.observe() == SHADOW
    place.aws.ask("advance", seconds=120)
    assert set(place.invoke(200)) == {"version-1"}
    place.aws.ask("advance", seconds=60)
    telemetry = place.target.telemetry()
    assert (telemetry.champion.requests, telemetry.order) == (200, 5)
    assert 60 < telemetry.challenger.requests < 140


def test_a_shadow_becomes_a_canary_with_the_same_model_and_a_rollback_takes_the_shadow_off(place: Place) -> None:
    start(place, SHADOW)
    place.target.apply(replace(CANARY, order=7))
    assert place.weights() == pytest.approx({"version-1": 0.9, "version-2": 0.1})
    assert "ShadowProductionVariants" not in place.endpoint()
    again = replace(SHADOW, order=9)
    place.target.apply(again)
    back = Traffic(order=11, champion="1")
    place.target.rollback(back)
    assert "ShadowProductionVariants" not in place.endpoint()
    assert place.target.observe() == back
    assert place.aws.count("CreateModel") == 2


def test_requests_errors_and_latencies_are_counted_by_version_from_when_the_traffic_was_applied(place: Place) -> None:
    start(place)
    place.invoke(40)
    place.target.apply(replace(CANARY, share=50))
    place.aws.ask("advance", seconds=60)
    place.aws.ask("predictor", model="-v2-", seconds=0.9)
    answers = place.invoke(100)
    place.aws.ask("predictor", model="-v2-", status=500, seconds=20.0)
    answers += place.invoke(100)
    place.aws.ask("advance", seconds=60)
    telemetry = place.target.telemetry()
    assert telemetry.champion.requests == answers.count("version-1")
    assert telemetry.challenger.requests == 200 - answers.count("version-1")
    assert (telemetry.champion.errors, telemetry.challenger.errors) == (0, answers.count("error"))
    assert 115 < telemetry.seconds < 180
    bins = np.searchsorted([*LATENCY_EDGES], [0.005, 0.9, 20.0])
    assert telemetry.champion.latency[bins[0]] == telemetry.champion.latency.sum() == telemetry.champion.requests
    assert telemetry.challenger.latency[bins[2]] == answers.count("error")
    assert telemetry.challenger.latency[bins[1]] == answers.count("version-2")
    assert (telemetry.champion.errors_by_unit, telemetry.tripped) == (None, None)


def test_a_larger_share_starts_the_count_anew_and_a_second_try_does_not(place: Place) -> None:
    start(place, CANARY)
    place.aws.ask("advance", seconds=60)
    place.invoke(30)
    place.aws.ask("advance", seconds=60)
    place.target.apply(CANARY)
    assert place.target.telemetry().champion.requests + place.target.telemetry().challenger.requests == 30
    place.target.apply(replace(CANARY, order=7, share=50))
    place.aws.ask("advance", seconds=120)
    telemetry = place.target.telemetry()
    assert (telemetry.champion.requests, telemetry.challenger.requests, telemetry.order) == (0, 0, 7)


def test_in_the_minute_in_which_the_traffic_changed_nothing_is_counted_yet(place: Place) -> None:
    start(place, CANARY)
    telemetry = place.target.telemetry()
    assert (telemetry.champion.requests, telemetry.order) == (0, 5)


def test_a_ringing_alarm_and_an_endpoint_that_went_back_are_told(place: Place) -> None:
    start(place, CANARY)
    cloudwatch = place.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="too-slow",
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
        Statistic="Average",
    )
    target = place.target
    target.settings = target.settings.model_copy(update={"alarms": ("too-slow",)})
    cloudwatch.set_alarm_state(AlarmName="too-slow", StateValue="OK", StateReason="All is well")
    assert target.telemetry().tripped is None
    cloudwatch.set_alarm_state(AlarmName="too-slow", StateValue="ALARM", StateReason="Threshold Crossed")
    assert target.telemetry().tripped == "CloudWatch alarm 'too-slow' is in ALARM: Threshold Crossed"
    first = next(
        name
        for call, arguments in place.aws.ask("state")["calls"]
        if call == "CreateEndpoint"
        for name in [arguments["EndpointConfigName"]]
    )
    place.client().update_endpoint(EndpointName=place.endpoint()["EndpointName"], EndpointConfigName=first)
    assert "has no version 2 as canary: it was rolled back outside of this rollout" in str(target.telemetry().tripped)
    assert target.observe() == replace(CANARY, share=0.0)
