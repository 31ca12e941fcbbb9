"""Every message between a task and the ledger's PostgreSQL is lost once, with its answer or alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from airflow_mlops.core.errors import LedgerUnavailableError
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.ledger.sql_schema import engine_of
from airflow_mlops.testing.embedded_postgres import EmbeddedPostgres
from airflow_mlops.testing.stack_settings import postgres_uri
from tests.contracts.cut_connection import SOCKET, CutConnection
from tests.contracts.test_ledger import draft

MOST_MESSAGES = 60
SIDES = ("before", "after")


@pytest.fixture
def connection(postgres_server: EmbeddedPostgres) -> Iterator[CutConnection]:
    """The way to the ledger's server, which can be cut."""
    server = Path(postgres_server.socket_folder) / SOCKET
    with tempfile.TemporaryDirectory(prefix="cut-") as folder, CutConnection(server, Path(folder)) as proxy:
        yield proxy


def opened(connection: CutConnection, model: str) -> tuple[SqlLedger, Engine]:
    """Return a ledger as a task opens it, with a connection of its own."""
    engine = engine_of(postgres_uri(str(connection.folder), "ledger", "psycopg"))
    return SqlLedger("", model, engine=engine), engine


def disturbed(connection: CutConnection, model: str, side: str, action: Callable[[SqlLedger, int], Any]) -> list[str]:
    """Take an action as often as it has messages, each time with another one lost, and then without any loss.

    Returns
    -------
    list of str
        How each attempt ended: ``done``, ``again``, or the error that nobody tries again.
    """
    ended = []
    for nth in range(1, MOST_MESSAGES):
        ledger, engine = opened(connection, model)
        connection.arm(nth, side)
        try:
            action(ledger, nth)
            ended.append("done")
        except LedgerUnavailableError as error:
            ended.append("again" if error.retryable else str(error))
        finally:
            lost = connection.cut
            connection.disarm()
            engine.dispose()
        ledger, engine = opened(connection, model)
        try:
            action(ledger, nth)
        finally:
            engine.dispose()
        if not lost:
            assert set(ended) <= {"done", "again"}
            return ended
    raise AssertionError(f"an action has more than {MOST_MESSAGES} messages")


@pytest.mark.parametrize("side", SIDES)
def test_a_record_whose_messages_are_lost_is_there_once_after_the_next_attempt(
    connection: CutConnection, fresh_name: str, side: str
) -> None:
    def append(ledger: SqlLedger, nth: int) -> None:
        record = ledger.append(draft(f"op{nth}"), read=ledger.head().sequence)
        assert record.operation == f"op{nth}"

    ended = disturbed(connection, fresh_name, side, append)
    ledger, engine = opened(connection, fresh_name)
    records = list(ledger.records())
    assert [record.operation for record in records] == [f"op{nth}" for nth in range(1, len(ended) + 1)]
    assert verify_chain(records) == len(records)
    assert ended[-1] == "done"
    assert len(ended) > 4, "several messages were lost, one after another"
    engine.dispose()


@pytest.mark.parametrize("side", SIDES)
def test_a_state_whose_messages_are_lost_is_that_of_the_records(
    connection: CutConnection, fresh_name: str, side: str
) -> None:
    first, engine = opened(connection, fresh_name)
    first.append(draft("op"), read=0)
    engine.dispose()

    def read(ledger: SqlLedger, _: int) -> None:
        assert sorted(ledger.state().published) == ["2013-01-06T00:00:00"]

    assert disturbed(connection, fresh_name, side, read)[-1] == "done"


@pytest.mark.parametrize("side", SIDES)
def test_a_lease_whose_messages_are_lost_is_held_by_one(connection: CutConnection, fresh_name: str, side: str) -> None:
    holders: list[tuple[int, str]] = []

    def take(ledger: SqlLedger, nth: int) -> None:
        holder = f"attempt {len(holders)}"
        if ledger.take_lease(f"lease {nth}", holder, seconds=60):
            holders.append((nth, holder))

    ended = disturbed(connection, fresh_name, side, take)
    assert ended[-1] == "done"
    held = [nth for nth, _ in holders]
    assert sorted(held) == sorted(set(held)), "nobody is told that he holds what another one holds"
