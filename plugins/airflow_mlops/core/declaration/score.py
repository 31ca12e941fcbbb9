"""The section ``score``: where the rows of a partition are predicted.

score:
  runs_on:
    kind: sagemaker
    image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/score:1
    role: arn:aws:iam::123456789012:role/fits
    storage: s3://company/fits/scores
"""

from typing import Literal

from pydantic import Field

from airflow_mlops.core.declaration.declared import Declared
from airflow_mlops.core.declaration.train import InstanceType


class TransformOnSageMaker(Declared):
    """Score partitions by batch transform jobs of SageMaker, one for each version and partition."""

    kind: Literal["sagemaker"]
    image: str = Field(
        min_length=1,
        max_length=255,
        description="container image with Python, requirements-step.lock, and a command ``serve`` that runs the "
        "archive's code",
    )
    role: str = Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", description="ARN of the role of the job")
    storage: str = Field(
        pattern=r"^s3://[^/]+(/.*)?$", description="where model and features go and the predictions come back"
    )
    instance_type: InstanceType = Field(default="ml.m5.xlarge", description="of each instance")
    instances: int = Field(default=1, ge=1, le=100, description="that share the files of a partition")
    rows_per_file: int = Field(
        default=100_000, ge=1, description="rows of a file that goes to the model at once, in at most 100 MB"
    )
    connection: str = Field(default="aws_default", description="Airflow connection of type aws")


class Score(Declared):
    """Where partitions are scored."""

    runs_on: TransformOnSageMaker = Field(description="the jobs that predict the rows")
