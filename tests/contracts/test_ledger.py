"""What every ledger promises: one order, one winner, and no change that does not show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, delete, update

from airflow_mlops.core.errors import LedgerCorruptError, LedgerError, StaleLedgerError
from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.record import Draft, Record, verify_chain
from airflow_mlops.core.ledger.sql_ledger import LEDGER, SqlLedger
from airflow_mlops.testing.in_memory import InMemoryLedger

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
    """Return what opens the ledger of a model; twice the same name is the same ledger."""
    if request.param == "in memory":
        opened: dict[str, Ledger] = {}
        yield lambda model: opened.setdefault(model, InMemoryLedger(model))
        return
    sqlite = f"sqlite:///{tmp_path / 'ledger.db'}"
    address = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    yield lambda model: SqlLedger(address, model)


def draft(operation: str, **details: object) -> Draft:
    return Draft("snapshot_published", operation, KEY, "ann", details or {"version": 1}, ("e1",))


def filled(ledger: Ledger, count: int) -> list[Record]:
    for number in range(count):
        ledger.append(draft(f"op{number}", rows=number, share=0.1 * number, word="ünïcode 😀"), read=number)
    return list(ledger.records())


def test_a_new_ledger_is_empty_and_its_chain_holds(open_ledger: Open, fresh_name: str) -> None:
    records = open_ledger(fresh_name).records()
    assert records == []
    assert verify_chain(records) == 0


def test_records_come_back_as_they_were_appended_in_order(open_ledger: Open, fresh_name: str) -> None:
    ledger = open_ledger(fresh_name)
    details = {"number": 7, "float": 0.1 + 0.2, "none": None, "list": [1, "two", {"three": 3}], "text": "ü\u2028\\"}
    first = ledger.append(draft("a", **details), read=0)
    second = ledger.append(Draft("promoted", "b", None, "bo", {"version": "1"}), read=1)
    assert open_ledger(fresh_name).records() == [first, second]
    assert first.details == details
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
    one, other = open_ledger(fresh_name), open_ledger(f"{fresh_name}_b")
    one.append(draft("a", rows=1), read=0)
    other.append(draft("a", rows=2), read=0)
    assert [record.details.rows for record in one.records()] == [1]
    assert [record.details.rows for record in other.records()] == [2]


def race(ledgers: list[Ledger], drafts: list[Draft], read: int) -> list[Record | Exception]:
    """Append every draft at the same moment, all having read the same number; return what each was told."""
    barrier, told = threading.Barrier(len(drafts)), [None] * len(drafts)

    def run(place: int) -> None:
        barrier.wait()
        try:
            told[place] = ledgers[place].append(drafts[place], read=read)
        except Exception as error:
            told[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(drafts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_of_two_concurrent_appenders_exactly_one_wins_in_fifty_rounds(open_ledger: Open, fresh_name: str) -> None:
    ledgers = [open_ledger(fresh_name), open_ledger(fresh_name)]
    ledgers[0].records()
    for turn in range(ROUNDS):
        told = race(ledgers, [draft(f"{turn}-left"), draft(f"{turn}-right")], turn)
        assert sorted(type(answer).__name__ for answer in told) == ["Record", "StaleLedgerError"], told
    assert verify_chain(ledgers[0].records()) == ROUNDS


def test_of_one_operation_appended_twice_at_once_both_are_told_the_same_record(
    open_ledger: Open, fresh_name: str
) -> None:
    ledgers = [open_ledger(fresh_name), open_ledger(fresh_name)]
    ledgers[0].records()
    for turn in range(10):
        left, right = race(ledgers, [draft(f"{turn}")] * 2, turn)
        assert left == right
    assert verify_chain(ledgers[0].records()) == 10


def test_two_first_users_at_once_make_one_table(fresh_name: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    told = race([SqlLedger(url, fresh_name), SqlLedger(url, fresh_name)], [draft("a"), draft("b")], 0)
    assert sorted(type(answer).__name__ for answer in told) == ["Record", "StaleLedgerError"], told


@pytest.mark.parametrize(
    "change",
    [
        {"details": {"rows": 99}}, {"actor": "eve"}, {"kind": "promoted"}, {"partition": "2014-01-05T00:00:00"},
        {"evidence": []}, {"operation": "other"}, {"recorded_at": "2000-01-01"}, {"hash": "0" * 64},
        {"previous_hash": "1" * 64},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
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
    monkeypatch.setattr("airflow_mlops.core.ledger.sql_ledger.time.sleep", lambda _seconds: None)
    with pytest.raises(LedgerError, match=f"{fresh_name}: the ledger did not answer in 5 attempts"):
        SqlLedger(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}", fresh_name).records()
