"""Ledgers that an earlier release left with its projection: records, fold and facts say today what they said then.

Each folder below ``frozen`` is named by the migration that its tables are at; ``frozen/README.md`` says who made it.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.ledger.earlier_forms import EARLIER_KINDS
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.kinds import KINDS, stored_kinds
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from tests.unit.core.ledger.plain_state import plain_state

FOLDERS = Path(__file__).parent / "frozen"
LIVES = {"0002": ("people",), "0003": ("people",), "0004": ("people", "labels", "recall")}
"""The ledgers of each folder."""
KINDS_HELD = {"0002": 22, "0003": 22, "0004": 34}
"""How many kinds of record the ledgers of a folder hold together; from 0004 on all that there are."""


@dataclass(frozen=True)
class Frozen:
    """A copy of a frozen ledger that nothing has opened yet, and the states that were frozen with it."""

    file: Path
    states: dict[str, Any]

    @property
    def ledger(self) -> SqlLedger:
        """The ledger, opened anew."""
        return SqlLedger(f"sqlite:///{self.file}", self.states["model"])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query of the file as it is."""
        with closing(sqlite3.connect(self.file)) as database:
            return database.execute(query).fetchall()


@pytest.fixture(params=[(folder, life) for folder, lives in LIVES.items() for life in lives], ids="-".join)
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Frozen:
    folder, life = request.param
    copy = tmp_path / "ledger.sqlite"
    shutil.copyfile(FOLDERS / folder / f"{life}.sqlite", copy)
    states = json.loads(gzip.decompress((FOLDERS / folder / "states.json.gz").read_bytes()))
    return Frozen(copy, states[life])


def test_every_folder_is_read() -> None:
    assert {folder.name for folder in FOLDERS.iterdir() if folder.is_dir()} == set(LIVES)


@pytest.mark.parametrize("folder", KINDS_HELD)
def test_the_ledgers_of_a_folder_hold_the_kinds_of_their_time_and_each_is_known(folder: str) -> None:
    kinds: set[str] = set()
    for life in LIVES[folder]:
        with closing(sqlite3.connect(FOLDERS / folder / f"{life}.sqlite")) as database:
            kinds |= {kind for (kind,) in database.execute("SELECT DISTINCT kind FROM airflow_mlops_ledger")}
    assert kinds <= set(KINDS) | {name for names in EARLIER_KINDS.values() for name in names}
    assert len(kinds) == KINDS_HELD[folder]


def test_the_chain_is_intact_and_every_record_is_read(frozen: Frozen) -> None:
    records = list(frozen.ledger.records())
    assert verify_chain(records) == frozen.states["records"] > 20
    assert all(record.kind in stored_kinds([type(record.details)]) for record in records)


def test_the_fold_gives_the_states_that_were_frozen_now_and_as_of_and_before_every_partition(frozen: Frozen) -> None:
    records = list(frozen.ledger.records())
    assert plain_state(fold(records)) == frozen.states["now"]
    for key in sorted({str(record.partition) for record in records if record.partition}):
        assert plain_state(fold(records, as_of=key)) == frozen.states["as_of"][key], key
        assert plain_state(fold(records, before=key)) == frozen.states["before"][key], key


def test_the_projection_of_then_gives_the_same_states_as_it_stands_or_once_it_is_migrated(frozen: Frozen) -> None:
    ((sequence,),) = frozen.rows("SELECT sequence FROM airflow_mlops_projected")
    assert sequence == frozen.states["records"]  # nothing is left to fold, so facts of another form would be used
    ledger = frozen.ledger
    assert plain_state(ledger.state()) == frozen.states["now"]
    for key, state in frozen.states["as_of"].items():
        assert plain_state(ledger.state(as_of=key)) == state, key
        assert plain_state(ledger.state(before=key)) == frozen.states["before"][key], key
