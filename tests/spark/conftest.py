"""One cluster for the suite, on loopback, and a session that ends with it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from airflow_mlops.core.engines.spark_cluster import close_session
from tests.spark.standalone import Cluster, start_cluster

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a standalone cluster with two workers."""
    with start_cluster(tmp_path_factory.mktemp("cluster"), workers=2) as running:
        yield running
        close_session()
