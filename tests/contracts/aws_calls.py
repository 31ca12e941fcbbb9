"""The calls of boto3, as actions and resources of IAM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import botocore.client
import pytest

from tests.terraform_module import ACCOUNT, REGION

ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
"""Operations of S3 whose action has another name."""
NAMES = {
    "TrainingJobName": "training-job",
    "TransformJobName": "transform-job",
    "ModelName": "model",
    "EndpointConfigName": "endpoint-config",
    "EndpointName": "endpoint",
}
"""Parameter that names the resource of an operation of SageMaker, by the end of the operation."""

Call = tuple[str, str]
"""Action and resource."""


@contextmanager
def recorded_calls(*, at: str) -> Iterator[set[Call]]:
    """Yield the calls that are made to an address inside the context, which go through as they are."""
    calls: set[Call] = set()
    send = botocore.client.BaseClient._make_api_call

    def record(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if client.meta.endpoint_url.startswith(at):
            calls.update(permissions_of(client.meta.service_model.service_name, operation, parameters))
        return send(client, operation, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", record)
        yield calls


def permissions_of(service: str, operation: str, parameters: Mapping[str, Any]) -> Iterator[Call]:
    """Yield the actions on resources that a principal must be allowed for an operation."""
    action = f"{service}:{ACTIONS.get(operation, operation)}"
    for name in ("RoleArn", "ExecutionRoleArn"):
        if name in parameters:
            yield "iam:PassRole", str(parameters[name])
    for resource in resources_of(service, operation, parameters):
        yield action, resource


def resources_of(service: str, operation: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return the ARNs that an operation is about; ``*`` where AWS knows none."""
    if service == "s3":
        key = f"/{parameters['Key']}" if "Key" in parameters else ""
        return [f"arn:aws:s3:::{parameters['Bucket']}{key}"]
    if operation == "DescribeAlarms":
        return [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{alarm}" for alarm in parameters["AlarmNames"]]
    if "ResourceArn" in parameters:
        return [str(parameters["ResourceArn"])]
    if service != "sagemaker" or operation.startswith("List"):
        return ["*"]
    named = {kind: parameters[name] for name, kind in NAMES.items() if name in parameters}
    kinds = [kind for kind in named if operation.replace("WeightsAndCapacities", "").endswith(camel(kind))]
    # A new or changed endpoint is checked with its configuration, too.
    kinds += ["endpoint-config"] if operation in ("CreateEndpoint", "UpdateEndpoint") else []
    return [f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{named[kind]}" for kind in kinds]


def camel(kind: str) -> str:
    """Return a kind of resource as operations spell it."""
    return "".join(word.capitalize() for word in kind.split("-"))
