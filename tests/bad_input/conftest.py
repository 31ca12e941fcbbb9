"""One PostgreSQL for the suite, and for each kind of source a loop with three good weeks behind it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from airflow_mlops.testing.embedded_postgres import EmbeddedPostgres
from tests.bad_input.case import Case
from tests.bad_input.world import CONTRACT, Connect, SourceKind, World

_SERIAL = itertools.count(1)

Open = Callable[[Case], World]


@pytest.fixture(scope="session")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg"), ["warehouse"])
    server.start()
    url = make_url(server.uri("warehouse", "psycopg"))
    host: Any = url.host or url.query["host"]
    yield lambda: psycopg.connect(host=host, user=url.username, dbname=url.database)
    server.stop()


@pytest.fixture(scope="session")
def seeded(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[SourceKind, bool], World]:
    """Return a function that makes the loop of a kind with its history, once; callers only copy it."""
    worlds: dict[tuple[SourceKind, bool], World] = {}

    def get(source: SourceKind, contract: bool) -> World:
        if (source, contract) not in worlds:
            world = World(tmp_path_factory.mktemp("seeded"), source, contract=CONTRACT if contract else None)
            if source == "sql":
                world.connect = request.getfixturevalue("connect")
                world.create()
            list(world.seed())
            worlds[source, contract] = world
        return worlds[source, contract]

    return get


@pytest.fixture
def open_world(tmp_path: Path, seeded: Callable[[SourceKind, bool], World], request: pytest.FixtureRequest) -> Open:
    """Return a function that opens the loop of a case with its history."""

    def open_case(case: Case) -> World:
        contract = None if case.contract is None else {**CONTRACT, **case.contract}
        world = World(tmp_path, case.source, contract=contract, data=case.data)
        if case.writer is not None:
            world.writer = case.writer
        if case.source == "sql":
            world.connect, world.table = request.getfixturevalue("connect"), f"orders_{next(_SERIAL)}"
            world.create(**case.types)
        return world if case.fresh else world.copy_stores(seeded(case.source, case.contract is not None))

    return open_case
