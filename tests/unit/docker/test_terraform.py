"""The Terraform module refers to nothing that it does not declare, and its policies name what they allow."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.terraform_module import ACCOUNT, MODULE, Block, policy, read_module, references, texts

REFERENCE = re.compile(r"(?<![.\w])(?:data\.\w+|var|local|aws_\w+)\.\w+")
WITHOUT_RESOURCE = {
    "cloudwatch:GetMetricData",
    "ecr:GetAuthorizationToken",
    "sagemaker:ListEndpointConfigs",
    "sagemaker:ListModels",
}
"""Actions for which AWS knows no resource, so that a policy can only say ``*``."""
ROLES = ("loops", "fits", "serving")
VALUES = references("bucket", fits=f"arn:aws:iam::{ACCOUNT}:role/fits", serving=f"arn:aws:iam::{ACCOUNT}:role/serving")


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    """All blocks of the module."""
    return read_module()


def only(blocks: list[Block], type_: str) -> dict[str, Any]:
    """Return the body of the one resource of a type."""
    (body,) = [block.body for block in blocks if block.type == type_]
    return body


def test_every_file_is_read_and_no_block_is_declared_twice(blocks: list[Block]) -> None:
    assert len(list(MODULE.glob("*.tf"))) == 7
    addresses = [block.address for block in blocks]
    assert len(addresses) == len(set(addresses)) > 40


def test_every_reference_leads_to_a_block(blocks: list[Block]) -> None:
    declared = {block.address for block in blocks}
    used = {
        (block.address, reference)
        for block in blocks
        for text in texts(block.body)
        if "${" in text
        for reference in REFERENCE.findall(text)
    }
    assert len(used) > 60
    assert {(where, reference) for where, reference in used if reference not in declared} == set()


def test_every_variable_and_every_local_is_used(blocks: list[Block]) -> None:
    text = "\n".join(file.read_text() for file in MODULE.glob("*.tf"))
    unused = {
        block.address
        for block in blocks
        if block.kind in ("variable", "local") and not re.search(rf"\b{re.escape(block.address)}\b", text)
    }
    assert unused == set()


def test_every_variable_and_every_output_says_what_it_is(blocks: list[Block]) -> None:
    named = [block for block in blocks if block.kind in ("variable", "output")]
    assert [block.address for block in named if not block.body.get("description", "").endswith(".")] == []
    assert [block.address for block in named if block.kind == "variable" and "type" not in block.body] == []


def test_the_bucket_is_versioned_encrypted_and_closed(blocks: list[Block]) -> None:
    assert only(blocks, "aws_s3_bucket_versioning")["versioning_configuration"] == [{"status": "Enabled"}]
    (rule,) = only(blocks, "aws_s3_bucket_server_side_encryption_configuration")["rule"]
    (default,) = rule["apply_server_side_encryption_by_default"]
    assert re.findall(r'"([\w:]+)"', default["sse_algorithm"]) == ["AES256", "aws:kms"]
    access = only(blocks, "aws_s3_bucket_public_access_block")
    assert {name for name, value in access.items() if value is True} == {
        "block_public_acls",
        "block_public_policy",
        "ignore_public_acls",
        "restrict_public_buckets",
    }
    (statement,) = policy("bucket", VALUES)["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": ["false"]}})


def test_no_rule_of_the_bucket_removes_what_versions_need(blocks: list[Block]) -> None:
    rules = only(blocks, "aws_s3_bucket_lifecycle_configuration")["rule"]
    expiring = {rule["id"]: rule["filter"] for rule in rules if "expiration" in rule}
    assert expiring == {"fits": [{"prefix": "fits/"}]}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_allows_actions_by_name_on_resources_by_name(role: str) -> None:
    for statement in policy(role, VALUES)["Statement"]:
        assert statement["Effect"] == "Allow"
        assert [action for action in statement["Action"] if "*" in action] == []
        if statement["Resource"] == ["*"]:
            assert set(statement["Action"]) <= WITHOUT_RESOURCE, statement["Sid"]
        else:
            assert [name for name in statement["Resource"] if re.fullmatch(r"(arn:aws:\w+:::)?\*", name)] == []


@pytest.mark.parametrize("role", ["fits", "serving"])
def test_a_role_of_sagemaker_reaches_its_own_folder_alone(role: str) -> None:
    reached = {
        resource
        for statement in policy(role, VALUES)["Statement"]
        if {"s3:GetObject", "s3:PutObject"} & set(statement["Action"])
        for resource in statement["Resource"]
    }
    assert reached
    assert all(resource.startswith(f"arn:aws:s3:::bucket/{role}/") for resource in reached)


def test_roles_of_sagemaker_are_assumed_by_sagemaker_for_this_account_alone() -> None:
    (statement,) = policy("sagemaker_trust", VALUES)["Statement"]
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": [ACCOUNT]}}


def test_roles_are_passed_to_sagemaker_alone() -> None:
    (statement,) = [entry for entry in policy("loops", VALUES)["Statement"] if "iam:PassRole" in entry["Action"]]
    assert statement["Resource"] == [VALUES["aws_iam_role.fits.arn"], VALUES["aws_iam_role.serving.arn"]]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": ["sagemaker.amazonaws.com"]}}


def test_an_alarm_sees_errors_and_another_latency_of_each_variant(blocks: list[Block]) -> None:
    alarms = {block.name: block.body for block in blocks if block.type == "aws_cloudwatch_metric_alarm"}
    assert set(alarms) == {"errors", "latency"}
    metrics = [query["metric"][0] for query in alarms["errors"]["metric_query"] if "metric" in query]
    assert {metric["metric_name"] for metric in metrics} == {"Invocation5XXErrors", "Invocations"}
    dimensions = [*(metric["dimensions"] for metric in metrics), alarms["latency"]["dimensions"]]
    assert all(set(entry) == {"EndpointName", "VariantName"} for entry in dimensions)
    assert alarms["latency"]["metric_name"] == "ModelLatency"
