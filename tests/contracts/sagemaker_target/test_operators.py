"""The operators change an endpoint once, wait with or without a slot, and fail if SageMaker rolls back by itself."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.operators.sagemaker_endpoints import (
    SageMakerEndpointOperator,
    SageMakerGuardrailOperator,
    SageMakerShadowOperator,
    SageMakerUpdateWeightsOperator,
)
from airflow_mlops.operators.stage_lineage import LISTENER
from airflow_mlops.testing.metadata import create_metadata, forget_everything
from airflow_mlops.testing.scheduler import InProcessScheduler
from airflow_mlops.triggers.sagemaker_settled import EndpointSettledTrigger
from tests.contracts.sagemaker_target.place import Place

WHERE: dict[str, Any] = {
    "endpoint_name": "prices",
    "aws_conn_id": "mlops_sagemaker",
    "waiter_delay": 0.05,
    "waiter_max_attempts": 100,
}
DAG = """
from airflow.sdk import DAG, BaseOperator
from airflow_mlops.operators.sagemaker_endpoints import *

WHERE = {where!r}
with DAG("prices", schedule=None) as dag:
    (
        SageMakerUpdateWeightsOperator(task_id="half", weights={{"a": 1, "b": 1}}, **WHERE)
        >> SageMakerGuardrailOperator(
            task_id="deploy", endpoint_config_name="{{{{ params.config }}}}", params={{"config": "second"}},
            alarms=["errors"], deferrable=True, **WHERE)
        >> SageMakerShadowOperator(task_id="refused", action="start", model_name="three", retries=3, **WHERE)
    )
"""


@pytest.fixture
def prices(place: Place) -> Place:
    """Return the account with an endpoint of the variants a and b, and a second configuration of the same variants."""
    client = place.client()
    for name in ("one", "two", "three"):
        client.create_model(ModelName=name, ExecutionRoleArn="arn:aws:iam::123456789012:role/serve")
    for config, model in (("first", "one"), ("second", "two")):
        variants = [variant("a", model), {**variant("b", model), "InitialVariantWeight": 3.0}]
        client.create_endpoint_config(EndpointConfigName=config, ProductionVariants=variants)
    client.create_endpoint_config(EndpointConfigName="alone", ProductionVariants=[variant("a", "one")])
    client.create_endpoint(EndpointName="prices", EndpointConfigName="first")
    client.create_endpoint(EndpointName="single", EndpointConfigName="alone")
    assert [described(place, name)["EndpointStatus"] for name in ("prices", "single")] == ["InService"] * 2
    return place


def variant(name: str, model: str) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": model,
        "InitialInstanceCount": 2,
        "InstanceType": "ml.c5.large",
        "InitialVariantWeight": 1.0,
    }


def described(place: Place, name: str = "prices") -> dict[str, Any]:
    return dict(place.client().describe_endpoint(EndpointName=name))


def run(operator: SageMakerEndpointOperator, place: Place | None = None) -> Any:
    """Execute as a task does: if it defers, its trigger is built from the stored arguments, and run."""
    try:
        return operator.execute({})
    except TaskDeferred as deferred:
        path, arguments = deferred.trigger.serialize()
        assert path == "airflow_mlops.triggers.sagemaker_settled.EndpointSettledTrigger"
        event = asyncio.run(first_event(EndpointSettledTrigger(**arguments)))
        return getattr(operator, deferred.method_name)({}, event=event.payload, **(deferred.kwargs or {}))


async def first_event(trigger: EndpointSettledTrigger) -> Any:
    async for event in trigger.run():
        return event
    return None


@pytest.fixture
def dags(tmp_path: Path) -> Iterator[Path]:
    create_metadata()
    forget_everything()
    folder = tmp_path / "dags"
    folder.mkdir()
    yield folder
    forget_everything()


def test_in_a_dag_they_run_one_after_another_and_a_refusal_is_not_tried_again(prices: Place, dags: Path) -> None:
    (dags / "prices.py").write_text(DAG.format(where=WHERE))
    with InProcessScheduler(dags) as scheduler:
        scheduler.trigger("prices")
        scheduler.run_until_idle()
        waiting = {task.task_id for task in scheduler.task_instances("prices") if task.state == "deferred"}
        assert (waiting, scheduler.run_triggers()) == ({"deploy"}, 1)
        scheduler.run_until_idle()
        tasks = {task.task_id: (task.state, task.try_number) for task in scheduler.task_instances("prices")}
    assert tasks == {"half": ("success", 1), "deploy": ("success", 1), "refused": ("failed", 1)}
    result = described(prices)
    assert result["EndpointConfigName"] == "second"
    canary = result["LastDeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert (canary["Type"], canary["CanarySize"]) == ("CANARY", {"Type": "CAPACITY_PERCENT", "Value": 10})


@pytest.mark.parametrize("deferrable", [False, True])
def test_weights_are_changed_once_and_compared(prices: Place, deferrable: bool) -> None:
    operator = SageMakerUpdateWeightsOperator(
        task_id="half", weights={"a": 1, "b": 1}, instance_counts={"b": 4}, deferrable=deferrable, **WHERE
    )
    prices.aws.ask("slow", seconds=0.3)
    for _ in range(2):
        assert run(operator)["weights"] == {"a": 1.0, "b": 1.0}
    assert prices.aws.count("UpdateEndpointWeightsAndCapacities") == 1
    assert [variant["CurrentInstanceCount"] for variant in described(prices)["ProductionVariants"]] == [2, 4]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_deployment_that_an_alarm_has_ended_fails_for_good_and_names_both_configs(
    prices: Place, deferrable: bool
) -> None:
    cloudwatch = prices.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Period=60,
        Statistic="Sum",
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="too many")
    operator = SageMakerGuardrailOperator(
        task_id="deploy",
        endpoint_config_name="second",
        alarms=["errors"],
        strategy="linear",
        step=20,
        deferrable=deferrable,
        **WHERE,
    )
    with pytest.raises(
        AirflowFailException,
        match=r"was to serve config second and serves first: .*by itself \(Alarm\(s\) \['errors'",
    ):
        run(operator)
    assert described(prices)["EndpointStatus"] == "InService"


def test_weights_that_sagemaker_took_back_fail_for_good(prices: Place) -> None:
    prices.aws.ask("fail", reason="No capacity.")
    operator = SageMakerUpdateWeightsOperator(task_id="all", weights={"a": 9}, **WHERE)
    with pytest.raises(AirflowFailException, match=r"was to have a at 9 and has a at 1\.0: .*\(No capacity\.\)"):
        run(operator)


def test_a_second_try_joins_the_deployment_of_the_first(prices: Place) -> None:
    prices.aws.ask("slow", seconds=1.0)
    arguments = {**WHERE, "endpoint_config_name": "second", "alarms": ["errors"]}
    begun = SageMakerGuardrailOperator(task_id="begin", wait_for_completion=False, **arguments)
    assert run(begun)["endpoint_config_name"] == "second"
    assert run(SageMakerGuardrailOperator(task_id="again", **arguments))["endpoint_config_name"] == "second"
    assert prices.aws.count("UpdateEndpoint") == 1


def test_a_change_amid_another_one_is_tried_again_later(prices: Place) -> None:
    prices.aws.ask("slow", seconds=30.0)
    run(SageMakerUpdateWeightsOperator(task_id="all", weights={"a": 9}, wait_for_completion=False, **WHERE))
    operator = SageMakerGuardrailOperator(task_id="deploy", endpoint_config_name="second", alarms=["errors"], **WHERE)
    with pytest.raises(TargetError, match=r"endpoint prices is Updating .*; it takes no other change"):
        run(operator)


@pytest.mark.parametrize("deferrable", [False, True])
def test_waiting_ends_after_the_attempts_and_may_be_tried_again(prices: Place, deferrable: bool) -> None:
    prices.aws.ask("slow", seconds=60.0)
    operator = SageMakerUpdateWeightsOperator(
        task_id="all", weights={"a": 9}, deferrable=deferrable, **{**WHERE, "waiter_max_attempts": 4}
    )
    with pytest.raises(TargetError, match="still Updating"):
        run(operator)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_shadow_starts_and_stops_and_its_config_is_made_once(prices: Place, deferrable: bool) -> None:
    where = {**WHERE, "endpoint_name": "single", "deferrable": deferrable}
    start = SageMakerShadowOperator(task_id="start", action="start", model_name="three", share=25, **where)
    first = run(start)["endpoint_config_name"]
    assert run(start)["endpoint_config_name"] == first
    (shadow,) = described(prices, "single")["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["CurrentWeight"]) == ("shadow", 0.25)
    config = prices.client().describe_endpoint_config(EndpointConfigName=first)
    assert config["ShadowProductionVariants"][0]["InstanceType"] == "ml.c5.large"
    stop = SageMakerShadowOperator(task_id="stop", action="stop", **where)
    for _ in range(2):
        run(stop)
    assert "ShadowProductionVariants" not in described(prices, "single")
    assert prices.aws.count("UpdateEndpoint") == 2


def test_a_shadow_beside_two_variants_is_refused_by_name(prices: Place) -> None:
    with pytest.raises(
        AirflowFailException, match="endpoint prices has the variants a, b; a shadow needs an endpoint with a single"
    ):
        run(SageMakerShadowOperator(task_id="start", action="start", model_name="three", **WHERE))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alarms": []}, "canary needs alarms: SageMaker rolls back only when one of them goes off"),
        ({"strategy": "bluegreen"}, "no such strategy 'bluegreen'; there are blue_green, canary, linear and rolling"),
        ({"step_unit": "pods"}, "step_unit is 'pods'; it must be percent or instances"),
        ({"endpoint_name": "costs"}, "there is no endpoint costs"),
    ],
)
def test_what_cannot_be_deployed_is_refused_in_words(prices: Place, change: dict[str, Any], words: str) -> None:
    arguments = {**WHERE, "endpoint_config_name": "second", "alarms": ["errors"], **change}
    with pytest.raises(AirflowFailException, match=words):
        run(SageMakerGuardrailOperator(task_id="deploy", **arguments))


def test_nothing_is_imported_or_asked_when_a_dag_file_is_read() -> None:
    # There is no connection of that name, and no endpoint.
    for kind, more in (
        (SageMakerUpdateWeightsOperator, {"weights": {"a": 1}}),
        (SageMakerShadowOperator, {"action": "stop"}),
        (SageMakerGuardrailOperator, {"endpoint_config_name": "c", "alarms": ["x"]}),
    ):
        operator: Any = kind(task_id="t", endpoint_name="e", aws_conn_id="nowhere", **more)
        assert operator.deferrable is False


@pytest.fixture
def lineage_is_on() -> Iterator[None]:
    """Airflow has loaded the listener of OpenLineage, as where a transport is configured."""
    present = LISTENER in sys.modules
    importlib.import_module(LISTENER)
    yield
    if not present:
        sys.modules.pop(LISTENER)


def datasets_of(operator: SageMakerEndpointOperator, ended: str = "complete") -> tuple[list[str], list[str]]:
    """Return the names of the inputs and of the outputs of an operator, as OpenLineage is told."""
    lineage = getattr(operator, f"get_openlineage_facets_on_{ended}")(None)
    assert {dataset.namespace for dataset in [*lineage.inputs, *lineage.outputs]} <= {"sagemaker://us-east-1"}
    return [dataset.name for dataset in lineage.inputs], [dataset.name for dataset in lineage.outputs]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.usefixtures("lineage_is_on")
def test_the_endpoint_is_an_output_and_what_it_is_to_serve_an_input(prices: Place, deferrable: bool) -> None:
    where = {**WHERE, "deferrable": deferrable}
    weights = SageMakerUpdateWeightsOperator(task_id="half", weights={"a": 1, "b": 1}, **where)
    deploy = SageMakerGuardrailOperator(task_id="deploy", endpoint_config_name="second", alarms=["errors"], **where)
    shadow = SageMakerShadowOperator(
        task_id="shadow", action="start", model_name="three", **{**where, "endpoint_name": "single"}
    )
    for operator in (weights, deploy, shadow):
        run(operator)
    assert datasets_of(weights) == ([], ["prices"])
    assert datasets_of(deploy) == (["endpoint-configs/second"], ["prices"])
    assert datasets_of(shadow) == (["models/three"], ["single"])
    (served,) = deploy.get_openlineage_facets_on_complete(None).outputs
    assert (served.facets or {})["version"].datasetVersion == "second"


@pytest.mark.usefixtures("lineage_is_on")
def test_an_endpoint_that_does_not_serve_the_request_is_no_output(prices: Place) -> None:
    prices.aws.ask("fail", reason="the container did not pass its ping")
    deploy = SageMakerGuardrailOperator(task_id="deploy", endpoint_config_name="second", alarms=["errors"], **WHERE)
    with pytest.raises(AirflowFailException):
        run(deploy)
    assert datasets_of(deploy, "failure") == (["endpoint-configs/second"], [])
