"""Loops with versions, and a SageMaker that predicts partitions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow.fs import S3FileSystem

from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.sagemaker_transforms import TransformsDouble
from tests.contracts.transform.loops import loop_of_kind
from tests.unit.core.toy_loop import go_live, ingest, week


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, object_store_url: str) -> Callable[[str], None]:
    """Return a function that adds a connection to a SageMaker at an address, with the S3 of this session."""

    def set_connection(sagemaker: str) -> None:
        services = {"s3": {"endpoint_url": object_store_url}, "sagemaker": {"endpoint_url": sagemaker}}
        connection = {
            "conn_type": "aws",
            "login": "key",
            "password": "hunter2",
            "extra": {"region_name": "us-east-1", "service_config": services},
        }
        monkeypatch.setenv("AIRFLOW_CONN_AWS_HERE", json.dumps(connection))

    return set_connection


@pytest.fixture
def sagemaker(
    object_store: S3FileSystem, object_store_url: str, connect: Callable[[str], None]
) -> Iterator[TransformsDouble]:
    object_store.create_dir("company")
    with TransformsDouble(s3_endpoint=object_store_url, secret="hunter2") as double:
        connect(double.url)
        yield double


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a loop of numbers with a champion, and week 3 published and not scored."""
    made = loop_of_kind("numbers", tmp_path)
    for number in range(4):
        ingest(made, week(number))
    go_live(made, week(2))
    return made
