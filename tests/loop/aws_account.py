"""A SageMaker, and an S3 with an empty bucket, which Airflow knows as ``aws_models``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

from airflow_mlops.testing.sagemaker_transforms import TransformsDouble


@contextmanager
def simulated_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[TransformsDouble]:
    """Yield the double of SageMaker of an account with the bucket ``company``."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    S3FileSystem(
        access_key="key",
        secret_key="hunter2",
        region="us-east-1",
        endpoint_override=endpoint,
        allow_bucket_creation=True,
    ).create_dir("company")
    with TransformsDouble(s3_endpoint=endpoint, secret="hunter2") as double:
        services = {"s3": {"endpoint_url": endpoint}, "sagemaker": {"endpoint_url": double.url}}
        connection = {
            "conn_type": "aws",
            "login": "key",
            "password": "hunter2",
            "extra": {"region_name": "us-east-1", "service_config": services},
        }
        monkeypatch.setenv("AIRFLOW_CONN_AWS_MODELS", json.dumps(connection))
        yield double
    server.stop()
