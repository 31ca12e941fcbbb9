"""SageMaker gets verified files and the instances that it needs; traffic that it cannot serve is refused."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import DeclarationError, RegistryError, RolloutError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.rollout_target import TargetError, Traffic
from airflow_mlops.core.registry.model_file import file_digest, load_model
from airflow_mlops.core.rollout.targets.sagemaker.model import endpoint_name, pack
from airflow_mlops.hooks.sagemaker import sagemaker_target
from airflow_mlops.testing.free_ports import free_port
from tests.contracts.sagemaker_target.place import BUCKET, CONNECTION, SERVING, Place
from tests.contracts.sagemaker_target.test_serving import CANARY, FIRST, start


def test_the_model_on_sagemaker_is_the_verified_version_in_a_container_without_network_or_secret(
    place: Place, tmp_path: Path
) -> None:
    version = place.version("1")
    place.target.prepare(version)
    (model,) = place.aws.ask("state")["Model"].values()
    address = model["PrimaryContainer"]["ModelDataUrl"]
    content = place.client("s3").get_object(Bucket=BUCKET, Key=address.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "opt-ml-model", filter="data")
    file = tmp_path / "opt-ml-model" / "model.skops"
    assert load_model(file, str(version.details.artefact)).predict([[3.0]])[0] == pytest.approx(3.0)
    (tmp_path / "model.tar.gz").write_bytes(content)
    assert address == f"{SERVING['storage']}/toy/{file_digest(tmp_path / 'model.tar.gz')}/model.tar.gz"
    assert model["EnableNetworkIsolation"] is True
    assert model["PrimaryContainer"]["Environment"] == {"MLOPS_MODEL": "toy", "MLOPS_VERSION": "1"}
    assert "secret" not in json.dumps(place.aws.ask("state"))


def test_the_same_files_give_the_same_archive_whenever_they_were_written(tmp_path: Path) -> None:
    for name, order in (("one", "ab"), ("two", "ba")):
        (tmp_path / name / "deep").mkdir(parents=True)
        for letter in order:
            (tmp_path / name / "deep" / letter).write_text(letter)
        pack(tmp_path / name, tmp_path / f"{name}.tar.gz")
    assert file_digest(tmp_path / "one.tar.gz") == file_digest(tmp_path / "two.tar.gz")


def test_a_version_whose_files_were_changed_never_reaches_sagemaker(place: Place) -> None:
    version = place.version("1")
    spoiled = replace(version, details=replace(version.details, artefact="0" * 64))
    with pytest.raises(RegistryError, match="version 1 of toy is refused"):
        place.target.prepare(spoiled)
    assert (place.aws.count("CreateModel"), "Contents" in place.client("s3").list_objects_v2(Bucket=BUCKET)) == (
        0,
        False,
    )


def test_instances_follow_the_share_and_none_that_the_champion_was_given_is_taken_away(place: Place) -> None:
    start(place)
    name = place.endpoint()["EndpointName"]
    place.client().update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "version-1", "DesiredInstanceCount": 6}]
    )
    place.client().describe_endpoint(EndpointName=name)

    def instances() -> list[int]:
        return [item["CurrentInstanceCount"] for item in place.endpoint()["ProductionVariants"]]

    counts = []
    for order, share in ((5, 10), (7, 50)):
        place.target.apply(replace(CANARY, order=order, share=share))
        counts.append(instances())
    place.target.apply(Traffic(order=9, champion="2"))
    assert [*counts, instances()] == [[6, 1], [6, 3], [6, 6]]
    calls = [
        arguments["DesiredWeightsAndCapacities"]
        for call, arguments in place.aws.ask("state")["calls"]
        if call == "UpdateEndpointWeightsAndCapacities"
    ]
    # The last instances are there before the last requests are.
    assert [sorted({key for item in call for key in item} - {"VariantName"}) for call in calls[-2:]] == [
        ["DesiredInstanceCount"],
        ["DesiredWeight"],
    ]


def test_a_variant_that_serves_keeps_its_model_and_instances_when_the_connection_says_otherwise(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(place)
    monkeypatch.setenv(CONNECTION, place.aws.connection(serving={**SERVING, "instance_type": "ml.c5.large"}))
    place.another_try().apply(CANARY)
    config = place.aws.ask("state")["EndpointConfig"][place.endpoint()["EndpointConfigName"]]
    kinds = {item["VariantName"]: item["InstanceType"] for item in config["ProductionVariants"]}
    assert kinds == {"version-1": "ml.m5.large", "version-2": "ml.c5.large"}


def test_requests_are_captured_where_the_connection_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, place.aws.connection(serving={**SERVING, "capture": 20}))
    start(place)
    (config,) = place.aws.ask("state")["EndpointConfig"].values()
    captured = config["DataCaptureConfig"]
    assert captured["InitialSamplingPercentage"] == 20
    assert captured["DestinationS3Uri"] == f"{SERVING['storage']}/captured/{endpoint_name('toy')}"


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (replace(CANARY, kind="rolling"), "a rolling stage cannot stop at a share on SageMaker"),
        (Traffic(order=9, champion=None), "needs a champion; delete the endpoint to stop serving"),
    ],
)
def test_what_no_endpoint_can_do_is_refused_before_it_is_told(place: Place, traffic: Traffic, words: str) -> None:
    start(place)
    with pytest.raises(RolloutError, match=words):
        place.target.apply(traffic)
    assert place.target.observe() == FIRST


def test_a_challenger_that_was_not_prepared_is_named(place: Place) -> None:
    start(place)
    with pytest.raises(TargetError, match="version 7 was not prepared: SageMaker has no model mlops-toy-"):
        place.target.apply(replace(CANARY, challenger="7"))


def test_a_version_that_no_variant_can_be_called_after_is_refused(place: Place) -> None:
    with pytest.raises(RolloutError, match="version '1_a' cannot be the name of a variant"):
        place.target.prepare(Version("1_a", "2013-01-06T00:00:00", {}))


def test_an_endpoint_that_could_not_be_created_says_why_and_what_to_do(place: Place) -> None:
    place.target.prepare(place.version("1"))
    place.aws.ask("fail", reason="The image cannot be pulled.")
    for _ in range(2):
        with pytest.raises(TargetError, match=r"has failed \(The image cannot be pulled\.\); .* only be deleted"):
            place.target.apply(FIRST)
    with pytest.raises(TargetError, match="The image cannot be pulled"):
        place.target.observe()


def test_an_endpoint_that_is_still_being_created_serves_nobody_and_a_second_try_waits_for_it(place: Place) -> None:
    place.target.prepare(place.version("1"))
    place.aws.ask("slow", seconds=1.0)
    place.target.endpoint.wait_seconds = 0.1
    with pytest.raises(TargetError, match="is still Creating"):
        place.target.apply(FIRST)
    assert place.target.observe() == Traffic(0, None)
    place.another_try().apply(FIRST)
    assert (place.target.observe(), place.aws.count("CreateEndpoint")) == (FIRST, 1)


def test_a_bucket_that_is_not_there_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, place.aws.connection(serving={**SERVING, "storage": "s3://elsewhere/toy"}))
    with pytest.raises(TargetError, match=r"preparing version 1 for SageMaker: .*elsewhere.* does not exist"):
        place.another_try().prepare(place.version("1"))


def test_where_aws_does_not_answer_trying_again_may_help(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    quick = {"retries": {"max_attempts": 1}, "connect_timeout": 1}
    monkeypatch.setenv(CONNECTION, place.aws.connection(serving=SERVING, endpoint_url=nobody, config_kwargs=quick))
    target = place.another_try()
    for call in (target.observe, target.telemetry, lambda: target.apply(FIRST)):
        with pytest.raises(TargetError, match="Could not connect to the endpoint URL"):
            call()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({}, 'has no settings of the endpoint; its extra must have "serving" with image, role and storage'),
        ({"serving": {**SERVING, "imaeg": "x"}}, r"serving\.imaeg unknown key \(value 'x'\); did you mean 'image'\?"),
        ({"serving": {"image": "x", "role": SERVING["role"]}}, r"serving\.storage is required and missing"),
        ({"serving": {**SERVING, "role": "serve"}}, r"serving\.role String should match pattern"),
    ],
)
def test_a_connection_that_says_too_little_is_told_by_key(
    place: Place, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], words: str
) -> None:
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "aws", "extra": extra}))
    with pytest.raises(DeclarationError, match=f"rollout.target: connection 'mlops_sagemaker'.*{words}"):
        sagemaker_target(place.workspace)


def test_the_connection_of_the_model_comes_first_and_without_any_both_are_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{CONNECTION}_TOY", place.aws.connection(serving={**SERVING, "instances": 3}))
    assert sagemaker_target(place.workspace).settings.instances == 3
    for name in (f"{CONNECTION}_TOY", CONNECTION):
        monkeypatch.delenv(name)
    with pytest.raises(DeclarationError, match="no connection 'mlops_sagemaker_toy' or 'mlops_sagemaker' of type aws"):
        sagemaker_target(place.workspace)
