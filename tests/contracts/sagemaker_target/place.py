"""A loop with signed and stored versions, and the SageMaker endpoint that shall serve them.

``with running_place(folder) as place`` is all that a suite over several targets needs: ``place.target`` is a
`SageMakerTarget`, ``place.another_try()`` one that remembers nothing, and ``place.version("1")`` makes a version of the
loop that it can prepare.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.registry import Registration
from airflow_mlops.core.registry.model_file import file_digest, save_model
from airflow_mlops.core.registry.sign_folder import read_signature, sign_folder
from airflow_mlops.core.rollout.targets.sagemaker.sagemaker_target import SageMakerTarget
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.hooks.sagemaker import sagemaker_target
from airflow_mlops.testing.in_memory import in_memory_workspace
from airflow_mlops.testing.sagemaker_server import SageMakerEndpoints
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.toy_loop import toy_loop

BUCKET = "serving"
SERVING: dict[str, Any] = {
    "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1",
    "role": "arn:aws:iam::123456789012:role/serve",
    "storage": f"s3://{BUCKET}/toy",
    "poll_seconds": 0.05,
    "wait_minutes": 0.5,
}
CONNECTION = "AIRFLOW_CONN_MLOPS_SAGEMAKER"


@dataclass
class Place:
    """The double, a loop, and its versions; ``target`` is opened as Airflow would open it."""

    aws: SageMakerEndpoints
    workspace: Workspace
    made: dict[str, Version] = field(default_factory=dict)

    @cached_property
    def target(self) -> SageMakerTarget:
        """The target of one worker."""
        return sagemaker_target(self.workspace)

    def another_try(self) -> SageMakerTarget:
        """Return a new target without any memory, like that of another try or worker."""
        return sagemaker_target(self.workspace)

    def version(self, number: str) -> Version:
        """Return a version of the loop, registered and in the ledger, whose model predicts ``number`` times x."""
        for version_number in map(str, range(len(self.made) + 1, int(number) + 1)):
            self.made[version_number] = register_version(self.workspace, version_number)
        return self.made[number]

    def client(self, service: str = "sagemaker") -> Any:
        """Return boto3's client of a service of the double."""
        return client_of(self.aws.url, service)

    def endpoint(self) -> dict[str, Any]:
        """Return the one endpoint that there is, as the double has it."""
        (endpoint,) = self.aws.ask("state")["Endpoint"].values()
        return dict(endpoint)

    def weights(self) -> dict[str, float]:
        """Return the weight of each production variant."""
        return {variant["VariantName"]: variant["CurrentWeight"] for variant in self.endpoint()["ProductionVariants"]}

    def invoke(self, times: int = 1) -> list[str]:
        """Send requests; return the variant that answered each, or ``error``."""
        runtime, answers = self.client("sagemaker-runtime"), []
        for _ in range(times):
            try:
                answer = runtime.invoke_endpoint(EndpointName=self.endpoint()["EndpointName"], Body=b"{}")
                answers.append(answer["InvokedProductionVariant"])
            except runtime.exceptions.ModelError:
                answers.append("error")
        return answers


@cache
def client_of(url: str, service: str) -> Any:
    """Return boto3's client of a service; making one takes longer than most tests."""
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    return boto3.client(service, endpoint_url=url, **keys)


@contextmanager
def simulated_endpoint(folder: Path, aws: SageMakerEndpoints, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Yield a fresh account with a bucket, and an empty loop in memory.

    :param folder: for model files
    :param aws: the running double; it forgets everything first
    """
    aws.reset()
    monkeypatch.setenv(CONNECTION, aws.connection(serving=SERVING))
    place = Place(aws, in_memory_workspace(toy_loop(), {}, scratch=folder))
    place.client("s3").create_bucket(Bucket=BUCKET)
    yield place


@contextmanager
def running_place(folder: Path) -> Iterator[Place]:
    """Yield the same with a double of its own, for a suite without the fixture."""
    with (
        SageMakerEndpoints(folder / "server.log") as aws,
        pytest.MonkeyPatch.context() as monkeypatch,
        simulated_endpoint(folder, aws, monkeypatch) as place,
    ):
        yield place


def register_version(workspace: Workspace, number: str) -> Version:
    """Register a version as the loop does: signed, its record in the ledger."""
    file = workspace.scratch / f"candidate-{number}.skops"
    slope = float(number)
    digest = save_model(LinearRegression().fit(np.array([[0.0], [1.0]]), [0.0, slope]), file)
    seal: dict[str, Any] = {}

    def sign(folder: Path) -> None:
        sign_folder(folder, workspace.keys)
        seal.update(asdict(read_signature(folder, workspace.keys)))

    registered_number = workspace.registry.register(
        Registration(
            f"operation-{number}",
            file,
            digest,
            metrics={},
            params={},
            tags={},
            requirements=(),
            seal=sign,
            files={"environment.json": b"{}"},
        )
    )
    assert (registered_number, file_digest(file)) == (number, digest)
    details: dict[str, Any] = {
        "version": number,
        "artefact": digest,
        "signature": seal,
        "request": number,
        "metrics": {},
    }
    partition = f"2013-01-{int(number):02d}T00:00:00"
    workspace.record_fact(draft_of(workspace, "candidate_registered", f"candidate:{number}", partition, **details))
    return workspace.state().versions[number]
