"""The page about upgrades on a small loop: an earlier ledger is migrated, and a later one is refused."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.sql_schema import REVISION
from tests.loop.by_core import publish
from tests.loop.project import KEYS, Project, make_project
from tests.loop.recovery_pages import Page


@pytest.fixture
def page(
    tmp_path: Path, airflow_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Page]:
    """The page, in the folder of a loop with a champion; the ledger of the session is at its migration afterwards."""
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    monkeypatch.chdir(tmp_path)
    yield Page("upgrade.md", project, capsys)
    rewrite_ledger(f"UPDATE airflow_mlops_schema SET version_num = '{REVISION}'")


def rewrite_ledger(*statements: str) -> None:
    """Change the tables of the embedded ledger as another release would leave them."""
    with closing(sqlite3.connect(Path(os.environ["AIRFLOW_HOME"]) / "mlops" / "ledger.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_the_page_takes_a_ledger_of_an_earlier_release_to_this_one(page: Page) -> None:
    page.follow("Before")
    rewrite_ledger("UPDATE airflow_mlops_schema SET version_num = '0002'", "DROP TABLE airflow_mlops_lease")
    printed = page.follow("The upgrade")
    first, last = re.findall(r"^(\w+) +ledger .*(?:answers, at|is at) migration (\d{4})", printed, re.MULTILINE)
    assert (first, last) == (("warning", "0002"), ("ok", REVISION))
    printed = page.follow("After")
    assert "is well declared" in printed
    assert "1 anchors hold" in printed
    assert "nothing to repair" in printed


def test_a_task_that_began_before_a_later_migration_ends_and_a_new_one_is_refused(page: Page) -> None:
    project: Project = page.project
    before = project.workspace
    before.state()
    rewrite_ledger("UPDATE airflow_mlops_schema SET version_num = '9999'")
    project.put(KEYS[2])
    publish(before, KEYS[2])
    sentence = re.search(r"the ledger is at migration 0005.*?or a later one", page.text)
    assert sentence is not None
    expected = sentence.group().replace("0005", "9999").replace("0004", REVISION)
    with pytest.raises(LedgerError) as refused:
        project.workspace.state()
    assert str(refused.value) == expected
    assert not refused.value.retryable
    assert page.run("airflow-mlops status bakery") == f"airflow-mlops: {expected}\n"
    rewrite_ledger(f"UPDATE airflow_mlops_schema SET version_num = '{REVISION}'")
    assert "every hash holds" in page.run("airflow-mlops audit verify bakery")


def test_a_record_of_a_later_release_is_refused_by_its_kind(page: Page) -> None:
    rewrite_ledger(
        "INSERT INTO airflow_mlops_ledger SELECT model, sequence + 1, 'later:1', 'later_kind', actor, partition, "
        "details, evidence, recorded_at, hash, hash FROM airflow_mlops_ledger "
        f"WHERE model = '{page.project.model}' ORDER BY sequence DESC LIMIT 1"
    )
    assert "no such kind of record: 'later_kind'" in page.run("airflow-mlops status bakery")
