"""The settings of the endpoints in a connection: image, role, storage, instances and waiting times.

    {"conn_type": "aws", "extra": {"region_name": "eu-central-1", "serving": {
        "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/serve:1",
        "role": "arn:aws:iam::123456789012:role/serve",
        "storage": "s3://company/serving"}}}

The keys are those of ``train.runs_on`` for training on SageMaker. They are nested in ``serving`` because the provider
gives some names at the top level another meaning.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from airflow_mlops.core.declaration.declared import Declared, Listed


class EndpointSettings(Declared):
    """Settings of the SageMaker endpoint that serves the versions of a model."""

    image: str = Field(min_length=1, max_length=255, description="container image that answers /ping and /invocations")
    role: str = Field(
        pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", description="ARN of the role of the container"
    )
    storage: str = Field(pattern=r"^s3://[^/]+(/.*)?$", description="where the archives of the models go")
    instance_type: str = Field(
        default="ml.m5.large", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$", description="of each version"
    )
    instances: int = Field(default=1, ge=1, description="of each version when it is first put on the endpoint")
    environment: dict[str, str] = Field(default={}, description="of the container, beside the version's name")
    alarms: Annotated[tuple[str, ...], Listed] = Field(
        default=(), max_length=10, description="CloudWatch alarms: one that is in ALARM fails the challenger"
    )
    capture: int = Field(default=0, ge=0, le=100, description="percent of the requests that are kept in storage")
    wait_minutes: float = Field(default=60.0, gt=0, description="how long a change of the endpoint may take")
    poll_seconds: float = Field(default=15.0, gt=0, description="pause between two looks at it")
