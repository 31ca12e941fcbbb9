"""A SageMaker training job as its API wants it described, and what its end means."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from airflow_mlops.core.declaration.train import FitLimits, OnSageMaker
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest

FOLDER = "/opt/ml"
CHANNEL = "job"
LONGEST_SECONDS = 24 * 60 * 60
"""Of a job without a declared limit; SageMaker's own default."""
UNDER_WAY = ("InProgress", "Stopping")


def job_name(request: FitRequest) -> str:
    """Return the name of the job of a request: the same for every try of one attempt, and of no other.

    At most 63 letters, digits and hyphens.
    """
    what = f"{request.operation} {request.candidate} {request.attempt}"
    digest = hashlib.sha256(what.encode()).hexdigest()[:24]
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{request.model}-{request.candidate}")[:32].strip("-")
    return f"mlops-{words}-{digest}"


def job_described(name: str, place: OnSageMaker, limits: FitLimits, inputs: str) -> dict[str, Any]:
    """Return what ``create_training_job`` is given; ``inputs`` is the address of the folder of the inputs.

    The container reaches no network and has no credentials: what it needs comes through the channel.
    """
    seconds = LONGEST_SECONDS if limits.minutes is None else max(1, round(60 * limits.minutes))
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": place.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python", f"{FOLDER}/input/data/{CHANNEL}/code.zip"],
            "ContainerArguments": ["fit", "--folder", FOLDER],
        },
        "RoleArn": place.role,
        "InputDataConfig": [
            {
                "ChannelName": CHANNEL,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix", "S3Uri": inputs, "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": place.storage.rstrip("/")},
        "ResourceConfig": {
            "InstanceType": place.instance_type, "InstanceCount": 1, "VolumeSizeInGB": place.volume_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        "EnableNetworkIsolation": True,
    }  # fmt: skip


def require_completed(job: dict[str, Any], candidate: str, limits: FitLimits) -> None:
    """Let a job go on that has completed.

    :raises TrainingError: with SageMaker's own reason, if it failed or was stopped
    """
    name, status = job["TrainingJobName"], job["TrainingJobStatus"]
    if status == "Completed":
        return
    where = f"candidate {candidate!r}: SageMaker job {name}"
    if job.get("SecondaryStatus") == "MaxRuntimeExceeded":
        minutes = LONGEST_SECONDS / 60 if limits.minutes is None else limits.minutes
        raise TrainingError(f"{where} took longer than {minutes:g} minutes (train.limits.minutes) and was stopped")
    if status == "Failed":
        raise TrainingError(f"{where} failed: {job.get('FailureReason') or 'SageMaker gives no reason'}")
    reason = job.get("FailureReason")
    raise TrainingError(f"{where} is {status.lower()}{f': {reason}' if reason else ''}; it is not started again")
