"""The projection is the fold, as of every partition, whatever the records, whoever wrote them, and after any crash."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.rollout_details import Promoted
from airflow_mlops.core.ledger.sql_facts import SqlSteps
from airflow_mlops.core.ledger.sql_ledger import BATCH, SqlLedger
from airflow_mlops.core.ledger.training_details import CandidateRegistered
from tests.unit.core.ledger.histories import History, contents, week
from tests.unit.core.ledger.test_state import WEEKS, AnyHistory

BOUNDS: list[dict[str, str]] = [{}, *({bound: week(number)} for bound in ("as_of", "before") for number in range(8))]
VERSIONS = st.integers(1, 4)


def assert_projection_is_fold(ledger: Ledger) -> None:
    """Fail where the state that a ledger keeps is not the fold of its records, now or as of any partition."""
    records = list(ledger.records())
    for bound in BOUNDS:
        state = ledger.state(**bound)
        assert state.sequence == len(records)
        assert contents(state) == contents(fold(records, **bound)), bound


class AnyLedger(AnyHistory):
    """Adds what the watch, labels, retention, erasure and people record, for partitions in any order."""

    @rule(number=WEEKS, champion=VERSIONS)
    def score(self, number: int, champion: int) -> None:
        digest = f"d{number}"
        self.history.add("predictions_published", number, champion=str(champion), version=1, snapshot=digest)

    @rule(number=WEEKS, check=st.sampled_from(["drift", "performance", "regret", "concept", "outside"]))
    def judge(self, number: int, check: str) -> None:
        more: dict[str, Any] = {}
        if check == "outside":
            more = {"added": [{"id": f"a{self.history.ledger.head().sequence}"}]}
        self.history.add("window_judged", number, check=check, verdict="alarm", snapshot=f"d{number}", schema=1, **more)

    @rule(number=WEEKS)
    def label(self, number: int) -> None:
        self.history.add("labels_arrived", number, since=week(0), digest="l", version=1, rows=3, touched={})

    @rule(number=WEEKS, table=st.sampled_from(["snapshots", "predictions", "quarantine"]), gone=st.sets(WEEKS))
    def expire(self, number: int, table: str, gone: set[int]) -> None:
        self.history.add("partitions_expired", number, tables={table: sorted(map(week, gone))})

    @rule(touched=st.sets(WEEKS, max_size=3), rows=st.integers(0, 1), labels=st.booleans(), predictions=st.booleans())
    def forget(self, touched: set[int], rows: int, labels: bool, predictions: bool) -> None:
        changes: dict[str, Any] = {}
        for number in touched:
            snapshot = {
                "version": 9,
                "arrived_version": 9,
                "digest": "e",
                "rows": rows,
                "snapshot_digest": "e",
                "snapshot_rows": rows,
                "was": f"d{number}",
            }
            changes[week(number)] = {"snapshots": snapshot}
            if labels:
                changes[week(number)]["labels"] = {"version": 8, "digest": "m", "rows": 2, "erased": 1}
            if predictions:
                changes[week(number)]["predictions"] = {"version": 7, "rows": 1, "digest": "p"}
        self.history.add("subject_forgotten", None, subject=f"s{len(changes)}", mask_key="k", partitions=changes)

    @rule(number=WEEKS, version=VERSIONS, kind=st.sampled_from(["approved", "rejected", "reproduced", "card_written"]))
    def note(self, number: int, version: int, kind: str) -> None:
        more = {"verdict": "identical"} if kind == "reproduced" else {}
        self.history.add(kind, number, version=str(version), **more)

    @rule(number=WEEKS)
    def escalate(self, number: int) -> None:
        self.history.add("escalated", number, champion="1")

    @rule(notifier=st.sampled_from(["chat", "mail"]), last=st.integers(0, 9))
    def notify(self, notifier: str, last: int) -> None:
        self.history.add("notified", None, notifier=notifier, kinds=["promoted", "alarm"], last=last)


class AnyLedgerInMemory(AnyLedger):
    @invariant()
    def the_projection_is_the_fold(self) -> None:
        assert_projection_is_fold(self.history.ledger)

    as_of_a_partition_nothing_depends_on_records_of_later_ones = None  # what is about no partition is later than none
    once_there_was_a_champion_there_is_one_and_it_was_promoted = None  # a rejected champion is quarantined here


class AnyLedgerInSql(AnyLedger):
    """Two writers on one database, readers that come late, and processes that die while they apply records."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.url = f"sqlite:///{self.folder / 'ledger.db'}"
        self.history = History(SqlLedger(self.url, "toy"))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def now(self) -> Any:
        return fold(self.history.ledger.records())

    @rule()
    def read_as_another_process(self) -> None:
        assert_projection_is_fold(SqlLedger(self.url, "toy"))

    @rule()
    def write_as_another_process(self) -> None:
        self.history = History(SqlLedger(self.url, "toy"))

    @precondition(lambda self: self.history.ledger.head().sequence > 0)
    @rule(before_the_commit=st.booleans())
    def die_while_applying(self, before_the_commit: bool) -> None:
        flush = SqlSteps.flush

        def dying(steps: SqlSteps) -> None:
            if before_the_commit:
                flush(steps)
            raise KeyboardInterrupt

        with mock.patch.object(SqlSteps, "flush", dying):
            try:
                SqlLedger(self.url, "toy").state()
            except KeyboardInterrupt:
                return  # there was something to apply

    the_sequence_is_that_of_the_last_record_whatever_is_left_out = None
    as_of_a_partition_nothing_depends_on_records_of_later_ones = None
    once_there_was_a_champion_there_is_one_and_it_was_promoted = None


class TestAnyLedgerInMemory(AnyLedgerInMemory.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=15, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow], deadline=None
    )


@pytest.mark.no_cover  # what it adds is other histories, not other lines
class TestAnyLedgerInSql(AnyLedgerInSql.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=10, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow], deadline=None
    )


@pytest.fixture
def ledger(tmp_path: Path) -> SqlLedger:
    return SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}", "toy")


def promote(ledger: SqlLedger, number: int, *, actor: str = "test") -> None:
    """Append a version and its promotion, as of a week of their own."""
    for details in (CandidateRegistered(version=str(number)), Promoted(version=str(number))):
        read = ledger.head().sequence
        ledger.append(Draft(details, f"{details.KIND}:{number}", week(number), actor), read=read)


def test_a_step_reads_the_records_that_are_new_and_no_others(ledger: SqlLedger) -> None:
    for number in range(1, 20):
        promote(ledger, number)
    ledger.state()
    promote(ledger, 20)
    read: list[int] = []
    original = Record.__init__

    def counting(record: Record[Any], *args: Any, **kwargs: Any) -> None:
        original(record, *args, **kwargs)
        read.append(record.sequence)

    with mock.patch.object(Record, "__init__", counting):
        for bound in BOUNDS:
            ledger.state(**bound)
    assert sorted(read) == [39, 40]


def test_an_append_reads_no_record_at_all(ledger: SqlLedger) -> None:
    promote(ledger, 1)
    with mock.patch("airflow_mlops.core.ledger.sql_ledger._read", side_effect=AssertionError("it read")) as reading:
        head = ledger.head()
        with pytest.raises(AssertionError):
            next(ledger.records())
    assert (head.sequence, reading.call_count) == (2, 1)


def test_a_ledger_that_was_put_back_to_an_older_one_is_projected_anew(tmp_path: Path) -> None:
    file, older = tmp_path / "ledger.db", tmp_path / "older.db"
    ledger = SqlLedger(f"sqlite:///{file}", "toy")
    promote(ledger, 1)
    shutil.copyfile(file, older)
    promote(ledger, 2)
    assert ledger.state().champion is not None
    rows = SqlLedger(f"sqlite:///{older}", "toy")
    # The records are those of the copy, and the projection is the newer one's.
    move_records(source=older, target=file)
    promote(ledger, 3, actor="another")
    assert_projection_is_fold(ledger)
    assert rows.head().sequence == 2


def move_records(*, source: Path, target: Path) -> None:
    """Replace the records of one database by those of another, and nothing else."""
    import sqlite3

    connection = sqlite3.connect(target)
    connection.execute("ATTACH ? AS other", (str(source),))
    connection.execute("DELETE FROM airflow_mlops_ledger")
    connection.execute("INSERT INTO airflow_mlops_ledger SELECT * FROM other.airflow_mlops_ledger")
    connection.commit()
    connection.close()


def test_more_records_than_a_batch_are_applied_and_read_in_order(ledger: SqlLedger) -> None:
    for number in range(1, BATCH // 2 + 3):
        promote(ledger, number)
    champion = ledger.state().champion
    assert champion is not None
    assert champion.number == str(BATCH // 2 + 2)
    assert [record.sequence for record in ledger.records()] == list(range(1, BATCH + 5))
    newest = [record.sequence for record in ledger.records(Promoted, newest_first=True)]
    assert newest == list(range(BATCH + 4, 0, -2))
