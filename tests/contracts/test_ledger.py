"""The contract of every ledger: one order, one winner, and every change shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    literal,
    update,
)
from sqlalchemy.pool import NullPool

from airflow_mlops.core.errors import LedgerCorruptError, LedgerError, LedgerUnavailableError, StaleLedgerError
from airflow_mlops.core.ledger import migrations
from airflow_mlops.core.ledger.data_details import PartitionRefused, SnapshotPublished
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.protocols import Head, Ledger
from airflow_mlops.core.ledger.record import GENESIS, Draft, Record, verify_chain
from airflow_mlops.core.ledger.rollout_details import Promoted
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.ledger.sql_schema import LEASE, LEDGER, PROJECTED, REVISION, VERSION_TABLE
from airflow_mlops.testing.in_memory import InMemoryLedger
from tests.unit.core.ledger.histories import History, contents, week

FROZEN = Path(__file__).parents[1] / "unit" / "core" / "ledger" / "frozen" / "ledger.sqlite"
KEY = "2013-01-06T00:00:00"
Open = Callable[[str], Ledger]
ROUNDS = 50


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=["sqlite", "postgresql", "in memory"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the ledger of a model; the same name opens the same ledger."""
    if request.param == "in memory":
        opened: dict[str, Ledger] = {}
        yield lambda model: opened.setdefault(model, InMemoryLedger(model))
        return
    sqlite = f"sqlite:///{tmp_path / 'ledger.db'}"
    address = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    yield lambda model: SqlLedger(address, model)


def draft(operation: str, **details: Any) -> Draft[SnapshotPublished]:
    return Draft(SnapshotPublished(version=1, digest="d", **details), operation, KEY, "ann", ("e1",))


def filled(ledger: Ledger, count: int) -> list[Record[Any]]:
    for number in range(count):
        outcomes = draft(f"op{number}", rows=number, origin={"share": 0.1 * number, "word": "ünïcode 😀"})
        ledger.append(outcomes, read=number)
    return list(ledger.records())


def test_a_new_ledger_is_empty_and_its_chain_holds(open_ledger: Open, fresh_name: str) -> None:
    ledger = open_ledger(fresh_name)
    assert list(ledger.records()) == []
    assert ledger.head() == Head(0, GENESIS)
    assert verify_chain(ledger.records()) == 0


def test_records_come_back_as_they_were_appended_in_order(open_ledger: Open, fresh_name: str) -> None:
    ledger = open_ledger(fresh_name)
    origin = {"number": 7, "float": 0.1 + 0.2, "none": None, "list": [1, "two", {"three": 3}], "text": "ü\u2028\\"}
    first = ledger.append(draft("a", origin=origin, warnings=("one",), outdated=()), read=0)
    second = ledger.append(Draft(Promoted(version="1"), "b", None, "bo"), read=1)
    assert list(open_ledger(fresh_name).records()) == [first, second]
    assert [record.details for record in ledger.records()] == [
        SnapshotPublished(version=1, digest="d", origin=origin, warnings=("one",), outdated=()),
        Promoted(version="1"),
    ]
    assert (first.sequence, second.sequence) == (1, 2)
    assert second.previous_hash == first.hash
    assert (second.partition, second.evidence) == (None, ())


def test_the_chain_of_any_number_of_records_verifies(open_ledger: Open, fresh_name: str) -> None:
    assert verify_chain(filled(open_ledger(fresh_name), 8)) == 8


def test_an_append_that_read_too_little_is_told_and_records_nothing(open_ledger: Open, fresh_name: str) -> None:
    ledger = open_ledger(fresh_name)
    filled(ledger, 2)
    for read in (0, 1):
        with pytest.raises(StaleLedgerError, match=f"decided on record {read}.*read the ledger again") as caught:
            ledger.append(draft(f"late{read}"), read=read)
        assert caught.value.retryable
    assert ledger.head().sequence == 2


def test_an_append_onto_a_record_that_is_not_there_is_refused(open_ledger: Open, fresh_name: str) -> None:
    with pytest.raises(LedgerError, match="there is no record 5 to append to"):
        open_ledger(fresh_name).append(draft("a"), read=5)


def test_the_same_operation_again_returns_the_first_record_whatever_was_read(
    open_ledger: Open, fresh_name: str
) -> None:
    ledger = open_ledger(fresh_name)
    first = ledger.append(draft("a", rows=1), read=0)
    ledger.append(draft("b"), read=1)
    for read in (0, 1, 2, 99):
        assert ledger.append(draft("a", rows=2), read=read) == first
    assert ledger.head().sequence == 2


def test_two_models_have_two_ledgers_with_operations_of_their_own(open_ledger: Open, fresh_name: str) -> None:
    first_ledger, other = open_ledger(fresh_name), open_ledger(f"{fresh_name}_b")
    first_ledger.append(draft("a", rows=1), read=0)
    other.append(draft("a", rows=2), read=0)
    assert [record.details.rows for record in first_ledger.records()] == [1]
    assert [record.details.rows for record in other.records()] == [2]


def test_records_are_read_by_kind_partition_and_number_in_either_order(open_ledger: Open, fresh_name: str) -> None:
    ledger = open_ledger(fresh_name)
    other = "2013-01-13T00:00:00"
    ledger.append(draft("a"), read=0)
    ledger.append(Draft(PartitionRefused(stage="validate"), "b", other, "bo"), read=1)
    ledger.append(Draft(Promoted(version="1"), "c", KEY, "bo"), read=2)
    ledger.append(draft("d"), read=3)

    def numbers(*kinds: Any, **wanted: Any) -> list[int]:
        return [record.sequence for record in ledger.records(*kinds, **wanted)]

    assert numbers() == [1, 2, 3, 4]
    assert numbers(newest_first=True) == [4, 3, 2, 1]
    assert numbers(SnapshotPublished) == [1, 4]
    assert numbers(SnapshotPublished, Promoted, newest_first=True) == [4, 3, 1]
    assert numbers(partition=other) == [2]
    assert numbers(after=2) == [3, 4]
    assert numbers(SnapshotPublished, partition=KEY, after=1) == [4]
    assert numbers(PartitionRefused, partition=KEY) == []


def test_one_record_is_read_by_its_number_or_its_operation(open_ledger: Open, fresh_name: str) -> None:
    ledger = open_ledger(fresh_name)
    records = filled(ledger, 3)
    assert [ledger.record(number) for number in range(5)] == [None, *records, None]
    assert [ledger.recorded(operation) for operation in ("op0", "op2", "op3")] == [records[0], records[2], None]
    assert ledger.head() == Head(3, records[-1].hash)


def test_the_state_is_the_fold_of_the_records_now_and_as_of_any_partition(open_ledger: Open, fresh_name: str) -> None:
    ledger = open_ledger(fresh_name)
    history = History(ledger).publish(0, 1).promote(1, "1").judge(2, "1", drift="alarm")
    bounds: list[dict[str, str]] = [{}, *({name: week(number)} for name in ("as_of", "before") for number in range(5))]
    for late in (4, 0, 3):  # also after more records, and for a partition before those that were judged
        history.publish(late)
        for bound in bounds:
            assert contents(ledger.state(**bound)) == contents(fold(ledger.records(), **bound)), bound
    assert open_ledger(fresh_name).state().machine.champion.number == "1"


def race(ledgers: list[Ledger], drafts: list[Draft[Any]], read: int) -> list[Record[Any] | Exception]:
    """Append every draft at the same moment, all having read the same number; return what each was told."""
    barrier = threading.Barrier(len(drafts))
    outcomes: list[Any] = [None] * len(drafts)

    def run(place: int) -> None:
        barrier.wait()
        try:
            outcomes[place] = ledgers[place].append(drafts[place], read=read)
        except Exception as error:
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(drafts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_of_two_concurrent_appenders_exactly_one_wins_in_fifty_rounds(open_ledger: Open, fresh_name: str) -> None:
    ledgers = [open_ledger(fresh_name), open_ledger(fresh_name)]
    ledgers[0].head()
    for turn in range(ROUNDS):
        outcomes = race(ledgers, [draft(f"{turn}-left"), draft(f"{turn}-right")], turn)
        assert sorted(type(answer).__name__ for answer in outcomes) == ["Record", "StaleLedgerError"], outcomes
    assert verify_chain(ledgers[0].records()) == ROUNDS


def test_of_one_operation_appended_twice_at_once_both_are_told_the_same_record(
    open_ledger: Open, fresh_name: str
) -> None:
    ledgers = [open_ledger(fresh_name), open_ledger(fresh_name)]
    ledgers[0].head()
    for turn in range(10):
        left, right = race(ledgers, [draft(f"{turn}")] * 2, turn)
        assert left == right
    assert verify_chain(ledgers[0].records()) == 10


def test_two_first_users_at_once_make_one_table(fresh_name: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    outcomes = race([SqlLedger(url, fresh_name), SqlLedger(url, fresh_name)], [draft("a"), draft("b")], 0)
    assert sorted(type(answer).__name__ for answer in outcomes) == ["Record", "StaleLedgerError"], outcomes


@pytest.mark.parametrize(
    "change",
    [
        {"details": {"rows": 99}},
        {"actor": "eve"},
        {"kind": "promoted"},
        {"partition": "2014-01-05T00:00:00"},
        {"evidence": []},
        {"operation": "other"},
        {"recorded_at": "2000-01-01"},
        {"hash": "0" * 64},
        {"previous_hash": "1" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_row_of_the_table_is_found(url: str, fresh_name: str, change: dict[str, object]) -> None:
    ledger = SqlLedger(url, fresh_name)
    filled(ledger, 4)
    tamper(url, update(LEDGER).where(LEDGER.c.model == fresh_name, LEDGER.c.sequence == 2).values(**change))
    with pytest.raises(LedgerCorruptError, match="record 2"):
        verify_chain(list(ledger.records()))


def test_a_removed_row_of_the_table_is_found(url: str, fresh_name: str) -> None:
    ledger = SqlLedger(url, fresh_name)
    filled(ledger, 4)
    tamper(url, delete(LEDGER).where(LEDGER.c.model == fresh_name, LEDGER.c.sequence == 3))
    with pytest.raises(LedgerCorruptError, match="record 3 is missing"):
        verify_chain(list(ledger.records()))


def tamper(url: str, statement: object) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        assert connection.execute(statement).rowcount == 1
    engine.dispose()


def test_a_database_that_does_not_answer_is_a_ledger_error_that_names_the_model(
    tmp_path: Path, fresh_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    with pytest.raises(LedgerError, match=f"{fresh_name}: the ledger did not answer in 6 attempts"):
        SqlLedger(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}", fresh_name).head()


@pytest.fixture(params=["sqlite", "postgresql"])
def earlier_url(request: pytest.FixtureRequest, tmp_path: Path, fresh_name: str) -> str:
    """Return the address of a database that an earlier release has written: one table, and no migrations."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'earlier.db'}"
    else:
        server = request.getfixturevalue("postgres_url")
        administrator = create_engine(server, isolation_level="AUTOCOMMIT")
        with administrator.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {fresh_name}")
        administrator.dispose()
        url = administrator.url.set(database=fresh_name).render_as_string(hide_password=False)
    engine = create_engine(url)
    source = create_engine(f"sqlite:///{FROZEN}")
    earlier = Table(LEDGER.name, MetaData(), autoload_with=source)
    with source.connect() as connection:
        rows = [dict(row) for row in connection.execute(earlier.select()).mappings()]
    source.dispose()
    assert set(inspect(source).get_table_names()) == {LEDGER.name}
    earlier.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(earlier), rows)
    engine.dispose()
    return url


def test_a_database_of_an_earlier_release_is_migrated_by_its_first_reader(earlier_url: str) -> None:
    before = tables_of(earlier_url)
    assert before == {LEDGER.name: 697}
    for model in ("toy_alarms", "toy_people"):
        ledger = SqlLedger(earlier_url, model)
        records = list(ledger.records())
        assert verify_chain(records) == len(records) > 100
        assert contents(ledger.state()) == contents(fold(records))
        added = ledger.append(draft("new"), read=len(records))
        assert ledger.head() == Head(len(records) + 1, added.hash)
    after = tables_of(earlier_url)
    assert after[LEDGER.name] == 699
    assert after[VERSION_TABLE] == 1


@pytest.fixture(params=["0002", "0003", "0004"])
def frozen_on_postgres(request: pytest.FixtureRequest, own_postgres_url: str) -> str:
    """Return the address of a PostgreSQL database at an earlier migration, with the rows that a release left there."""
    url = own_postgres_url
    engine, source = create_engine(url), create_engine(f"sqlite:///{FROZEN.parent / request.param / 'people.sqlite'}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection, source.connect() as kept:
        config.attributes["connection"] = connection
        command.upgrade(config, request.param)
        tables = MetaData()
        tables.reflect(connection, only=lambda name, _: name != VERSION_TABLE)
        for table in tables.sorted_tables:
            rows = [dict(row) for row in kept.execute(table.select()).mappings()]
            if rows:
                connection.execute(insert(table), rows)
    source.dispose()
    engine.dispose()
    return url


def test_a_projection_of_an_earlier_release_on_postgresql_reads_as_the_records_do(frozen_on_postgres: str) -> None:
    before = tables_of(frozen_on_postgres)
    assert before[LEDGER.name] >= 70
    assert before["airflow_mlops_fact"] > 50
    engine = create_engine(frozen_on_postgres)
    with engine.connect() as connection:
        model = str(connection.exec_driver_sql(f"SELECT model FROM {PROJECTED.name}").scalar_one())
    engine.dispose()
    ledger = SqlLedger(frozen_on_postgres, model)
    records = list(ledger.records())
    assert verify_chain(records) == before[LEDGER.name]
    assert contents(ledger.state()) == contents(fold(records))
    for key in sorted({str(record.partition) for record in records if record.partition})[::4]:
        assert contents(ledger.state(as_of=key)) == contents(fold(records, as_of=key)), key
    added = ledger.append(draft("new"), read=len(records))
    assert ledger.state().sequence == added.sequence == len(records) + 1


@dataclass(frozen=True, kw_only=True)
class SnapshotPublishedWithMore(SnapshotPublished):
    """A record of a later release, with a field more."""

    seal: str = "s"


class SnapshotPublishedAnew(SnapshotPublished):
    """A record of a later release, whose fields mean something else."""

    FORM = 2


@pytest.mark.parametrize(
    ("details", "sentence"),
    [
        (SnapshotPublishedWithMore, "'snapshot_published' has fields that this release does not know, seal; a later"),
        (SnapshotPublishedAnew, "'snapshot_published' has form 2, and this release reads 1; a later release wrote it"),
    ],
)
def test_a_record_of_a_later_release_is_refused_and_changes_nothing_of_the_projection(
    url: str, fresh_name: str, details: type[SnapshotPublished], sentence: str
) -> None:
    ledger = SqlLedger(url, fresh_name)
    filled(ledger, 2)
    ledger.state()
    ledger.append(Draft(details(version=2, digest="later"), "later", week(1), "ann"), read=2)
    before = tables_of(url)
    for _ in range(2):  # the second attempt finds nothing that the first has left behind
        with pytest.raises(LedgerError, match=sentence) as refused:
            SqlLedger(url, fresh_name).state()
        assert not refused.value.retryable
    assert tables_of(url) == before
    known = ledger.record(2)
    assert known is not None
    assert known.details.digest == "d"
    assert verify_chain(ledger.records()) == 3


def test_a_fact_that_a_later_release_has_projected_is_refused_too(url: str, fresh_name: str) -> None:
    ledger = SqlLedger(url, fresh_name)
    filled(ledger, 2)
    assert ledger.state().published[KEY].digest == "d"
    fact = Table(
        "airflow_mlops_fact", MetaData(), Column("model", String), Column("fact", String), Column("value", Text)
    )
    engine = create_engine(url)
    with engine.begin() as connection:
        published = (fact.c.model == fresh_name) & (fact.c.fact == "published")
        later_value = literal('{"seal":"s",') + func.substr(fact.c.value, 2)
        connection.execute(update(fact).where(published).values(value=later_value))
    engine.dispose()
    with pytest.raises(LedgerError, match="'snapshot_published' has fields that this release does not know, seal"):
        _ = ledger.state().published[KEY]


def test_two_first_readers_of_a_database_of_an_earlier_release_migrate_it_once(earlier_url: str) -> None:
    ledgers = [SqlLedger(earlier_url, "toy_regret"), SqlLedger(earlier_url, "toy_labels")]
    outcomes = race(ledgers, [draft("left"), draft("right")], 0)  # both have read too little, and both are answered
    assert [type(answer).__name__ for answer in outcomes] == ["StaleLedgerError"] * 2, outcomes
    assert [ledger.head().sequence for ledger in ledgers] == [72, 52]
    assert tables_of(earlier_url)[VERSION_TABLE] == 1


def test_a_database_of_a_later_release_is_refused_by_what_to_install_and_left_alone(url: str, fresh_name: str) -> None:
    filled(SqlLedger(url, fresh_name), 2)
    versions = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(update(versions).values(version_num="9999"))
        before = tables_of(url)
        for use in (
            lambda ledger: ledger.state(),
            lambda ledger: list(ledger.records()),
            lambda ledger: ledger.append(draft("late"), read=2),
        ):
            with pytest.raises(LedgerError, match=r"at migration 9999.*reads migration \d{4}; install the release"):
                use(SqlLedger(url, fresh_name))
        assert tables_of(url) == before
    finally:
        with engine.begin() as connection:
            connection.execute(update(versions).values(version_num=REVISION))
        engine.dispose()


def tables_of(url: str) -> dict[str, int]:
    """Return the tables of a database and how many rows each has."""
    engine: Engine = create_engine(url)
    with engine.connect() as connection:
        counts = {
            name: int(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one())
            for name in inspect(engine).get_table_names()
        }
    engine.dispose()
    return counts


def test_of_two_holders_one_has_a_lease_until_it_ends_it(open_ledger: Open, fresh_name: str) -> None:
    ledger = open_ledger(fresh_name)
    assert ledger.take_lease("chat", "ann", seconds=60)
    assert not ledger.take_lease("chat", "ben", seconds=60)
    assert ledger.take_lease("mail", "ben", seconds=60)
    ledger.end_lease("chat", "ben")
    assert not ledger.take_lease("chat", "ben", seconds=60)
    ledger.end_lease("chat", "ann")
    assert ledger.take_lease("chat", "ben", seconds=60)
    assert list(ledger.records()) == []


def test_a_lease_whose_holder_has_died_is_free_when_its_time_is_up(url: str, fresh_name: str) -> None:
    ledger = SqlLedger(url, fresh_name)
    assert ledger.take_lease("chat", "ann", seconds=3600)
    pass_time(url, fresh_name, seconds=3000)
    assert not ledger.take_lease("chat", "ben", seconds=3600)
    pass_time(url, fresh_name, seconds=600)
    assert ledger.take_lease("chat", "ben", seconds=3600)
    ledger.end_lease("chat", "ann")  # which has it no longer
    assert not ledger.take_lease("chat", "ann", seconds=3600)


def pass_time(url: str, model: str, *, seconds: float) -> None:
    """Make the leases of a model end so much sooner."""
    tamper(url, update(LEASE).where(LEASE.c.model == model).values(until=LEASE.c.until - seconds))


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_machine_whose_clock_is_an_hour_off_takes_no_lease_and_holds_none_for_longer(
    url: str, fresh_name: str, hours: int
) -> None:
    off = SqlLedger(url, fresh_name, clock=lambda: datetime.now(UTC) + timedelta(hours=hours))
    right = SqlLedger(url, fresh_name)
    for holder, other in ((off, right), (right, off)):
        assert holder.take_lease("chat", "ann", seconds=300)
        assert not other.take_lease("chat", "ben", seconds=300)
        pass_time(url, fresh_name, seconds=300)
        assert other.take_lease("chat", "ben", seconds=300)
        other.end_lease("chat", "ben")


def test_records_of_machines_whose_clocks_are_an_hour_apart_are_one_chain_in_the_order_of_their_numbers(
    url: str, fresh_name: str
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ledgers = [SqlLedger(url, fresh_name, clock=partial(now.__add__, timedelta(hours=hours))) for hours in (1, -1, 0)]
    for number in range(9):
        ledgers[number % 3].append(draft(f"op{number}", rows=number), read=number)
    records = list(ledgers[0].records())
    assert verify_chain(records) == 9
    assert [record.details.rows for record in records] == list(range(9))
    assert len({record.recorded_at for record in records}) == 3
    assert all(ledger.state().published[KEY].rows == 8 for ledger in ledgers)


@pytest.fixture
def impatient(url: str) -> Iterator[Engine]:
    """Return an engine that waits a tenth of a second for a lock."""
    soon = {"timeout": 0.1} if url.startswith("sqlite") else {"options": "-c lock_timeout=100"}
    engine = create_engine(url, poolclass=NullPool, connect_args=soon)
    yield engine
    engine.dispose()


def locked(url: str) -> Connection:
    """Return a connection that holds the ledger alone, until it is closed."""
    connection = create_engine(url, poolclass=NullPool).connect()
    lock = "BEGIN IMMEDIATE" if url.startswith("sqlite") else f"LOCK TABLE {LEDGER.name} IN ACCESS EXCLUSIVE MODE"
    connection.exec_driver_sql(lock)
    return connection


def test_a_ledger_that_stays_locked_is_told_as_worth_another_attempt_which_records_once(
    url: str, impatient: Engine, fresh_name: str
) -> None:
    SqlLedger(url, fresh_name).append(draft("op0"), read=0)
    ledger = SqlLedger(url, fresh_name, engine=impatient)
    words = f"{fresh_name}: the ledger did not answer in 6 attempts: .*lock"
    with closing(locked(url)), pytest.raises(LedgerUnavailableError, match=words) as error:
        ledger.append(draft("op1"), read=1)
    assert error.value.retryable
    for _ in range(2):
        assert ledger.append(draft("op1"), read=1).sequence == 2
    assert verify_chain(list(ledger.records())) == 2


def test_a_ledger_that_is_locked_for_a_while_is_waited_for(url: str, impatient: Engine, fresh_name: str) -> None:
    SqlLedger(url, fresh_name).append(draft("op0"), read=0)
    ledger = SqlLedger(url, fresh_name, engine=impatient)
    holder, refused = locked(url), threading.Event()
    event.listen(impatient, "handle_error", lambda _context: refused.set())
    with ThreadPoolExecutor(1) as pool:
        recorded = pool.submit(ledger.append, draft("op1"), read=1)
        assert refused.wait(60)
        holder.close()
        assert recorded.result().sequence == 2


def test_of_writers_that_race_for_a_lease_one_gets_it(url: str, fresh_name: str) -> None:
    ledgers = [SqlLedger(url, fresh_name) for _ in range(4)]
    start = threading.Barrier(len(ledgers))
    taken: list[bool] = []

    def take(number: int) -> None:
        start.wait()
        taken.append(ledgers[number].take_lease("chat", f"holder {number}", seconds=60))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(len(ledgers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False, False, False, True]
