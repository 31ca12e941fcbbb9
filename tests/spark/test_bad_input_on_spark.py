"""Bad input on executors: the same outcome, the same words, the same records and the same rows as in one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_mlops.core.errors import MlopsError
from tests.bad_input.case import Case
from tests.bad_input.cases import CASES
from tests.bad_input.world import BAD, CONTRACT, SourceKind, World
from tests.same_records import facts, rows_of
from tests.spark.engines import SparkWorld

READ = [case for case in CASES if case.source in ("parquet", "csv") and case.outcome != "declaration error"]
"""The cases that reach a source which executors read."""


def chosen() -> list[Case]:
    """Return some of the cases, spread over the table, or all with SPARK_CASES=all."""
    return READ if os.environ.get("SPARK_CASES") == "all" else READ[3::25]


Seeded = Callable[[SourceKind, bool], World]


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    """Return a function that makes the loop of a kind with its history, once."""
    worlds: dict[tuple[SourceKind, bool], World] = {}

    def get(source: SourceKind, contract: bool) -> World:
        if (source, contract) not in worlds:
            world = World(tmp_path_factory.mktemp("seeded"), source, contract=CONTRACT if contract else None)
            list(world.seed())
            worlds[source, contract] = world
        return worlds[source, contract]

    return get


def ingest(case: Case, world: World) -> str:
    """Deliver a case and ingest it; return what the person reads."""
    if case.writer is not None:
        world.writer = case.writer
    case.deliver(world)
    if case.changed:
        world.contract = {**(world.contract or {}), **case.changed}
    try:
        return str(world.ingest(BAD).rows)
    except MlopsError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("case", chosen(), ids=lambda case: case.line.replace(" ", "_"))
def test_bad_input_has_the_same_outcome_on_executors(case: Case, tmp_path: Path, seeded: Seeded) -> None:
    contract = None if case.contract is None else {**CONTRACT, **case.contract}
    worlds = []
    for kind, name in ((World, "local"), (SparkWorld, "spark")):
        (tmp_path / name).mkdir()
        world = kind(tmp_path / name, case.source, contract=contract, data=case.data)
        worlds.append(world if case.fresh else world.copy_stores(seeded(case.source, case.contract is not None)))
    local, spark = worlds
    assert ingest(case, spark) == ingest(case, local)
    assert facts(spark.reader) == facts(local.reader)
    for table in ("snapshots", "quarantine"):
        assert rows_of(spark.reader, table) == rows_of(local.reader, table)
