"""One SageMaker double for the session, and a fresh account in it for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlops.testing.sagemaker_server import SageMakerEndpoints
from tests.contracts.sagemaker_target.place import Place, simulated_endpoint


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SageMakerEndpoints]:
    with SageMakerEndpoints(tmp_path_factory.mktemp("sagemaker") / "server.log") as server:
        yield server


@pytest.fixture
def place(aws: SageMakerEndpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with simulated_endpoint(tmp_path, aws, monkeypatch) as sagemaker:
        yield sagemaker
