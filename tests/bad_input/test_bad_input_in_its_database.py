"""Bad rows of a database with ``engine: sql``: the same outcome, words, records and rows as with ``engine: local``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import MlopsError
from tests.bad_input.case import Case
from tests.bad_input.cases import CASES
from tests.bad_input.conftest import Open
from tests.bad_input.world import BAD, World
from tests.same_records import facts, rows_of

READ = [case for case in CASES if case.source == "sql" and case.outcome != "declaration error"]


@dataclass
class DatabaseWorld(World):
    """The world of a case, whose database judges the rows."""

    @property
    def fields(self) -> dict[str, Any]:
        """The declaration."""
        return {**super().fields, "engine": "sql"}


def ingest(world: World) -> str:
    """Ingest the bad week; return what the person reads."""
    try:
        return str(world.ingest(BAD).rows)
    except MlopsError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("case", READ, ids=lambda case: case.line.replace(" ", "_"))
def test_bad_input_has_the_same_outcome_in_its_database(case: Case, open_world: Open, tmp_path: Path) -> None:
    local = open_world(case)
    case.deliver(local)
    if case.changed:
        local.contract = {**(local.contract or {}), **case.changed}
    folder = tmp_path / "sql"
    shutil.copytree(local.folder, folder)
    sql = DatabaseWorld(**{**vars(replace(local)), "folder": folder})
    assert ingest(sql) == ingest(local)
    assert facts(sql.reader) == facts(local.reader)
    for table in ("snapshots", "quarantine"):
        assert rows_of(sql.reader, table) == rows_of(local.reader, table)
