"""A loop with ``engine: spark`` where nothing of Spark is installed, or no cluster is."""

from __future__ import annotations

from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.check_declaration import check_declaration
from airflow_mlops.core.engines.spark_cluster import open_session
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.connections import NoConnections, SparkAddress
from tests.unit.core.toy_loop import toy_loop

SENTENCE = r"engine: is spark, which needs PySpark, .* pip install 'airflow-mlops\[spark\]'"


@pytest.fixture
def no_pyspark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide PySpark, whether it is installed here or not."""
    find = PathFinder.find_spec

    def find_others(name: str, *places: Any) -> ModuleSpec | None:
        return None if name == "pyspark" else find(name, *places)

    monkeypatch.setattr(PathFinder, "find_spec", find_others)


@pytest.mark.usefixtures("no_pyspark")
@pytest.mark.parametrize("at_parse", [True, False])
def test_a_check_says_what_to_install(at_parse: bool, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=SENTENCE):
        check_declaration(toy_loop(engine="spark"), tmp_path.parent, at_parse=at_parse)


@pytest.mark.usefixtures("no_pyspark")
def test_a_task_says_so_too() -> None:
    with pytest.raises(DeclarationError, match=SENTENCE):
        open_session(SparkAddress("local[2]"))


def test_without_connections_there_is_no_cluster() -> None:
    with pytest.raises(DeclarationError, match="engine: connection 'mlops_spark' is not available here"):
        NoConnections().spark()


def test_an_engine_that_is_none_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"engine: .*'local', 'spark' or 'sql'"):
        toy_loop(engine="flink")
