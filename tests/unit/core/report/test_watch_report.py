"""The page about a partition: what it says, that it is kept once, and that it survives what is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import LedgerError, NotReadyError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.report.kept_reports import keep_report, load_page, newest_page
from airflow_mlops.core.report.watch_report import watch_report
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.workspace import Workspace
from tests.headless_chromium import Document
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.report.watched_week import judged_week, moved_weeks, scored_week
from tests.unit.core.toy_loop import toy_rows, week


@pytest.fixture(scope="module")
def moved_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A judged week whose inputs have moved; the tests only read it, or repeat themselves on it."""
    return judged_week(tmp_path_factory.mktemp("moved"), moved_weeks())


def state_of(workspace: Workspace) -> LoopState:
    return workspace.state()


def test_the_page_says_what_the_ledger_says_of_drift_performance_and_the_decision(moved_workspace: Workspace) -> None:
    state, page = state_of(moved_workspace), Document(watch_report(moved_workspace, week(3)))
    assert state.drift[week(3)].verdict == "alarm"
    *_, decision = moved_workspace.ledger.records(RetrainDecided)
    for text in (
        state.drift[week(3)].message,
        state.performance[week(3)].message,
        decision.details.reason,
        state.scored[week(3)].snapshot,
        str(state.drift[week(3)].report),
    ):
        assert text in page.text


def test_the_page_has_a_line_with_numbers_for_each_column_and_each_slice(moved_workspace: Workspace) -> None:
    page = watch_report(moved_workspace, week(3))
    assert all(name in page for name in (">x</td>", ">kind</td>", ">a</td>", ">b</td>", ">c</td>"))
    evidence = moved_workspace.evidence.get(state_of(moved_workspace).drift[week(3)].report)
    distance = next(column["distance"] for column in evidence["columns"] if column["column"] == "x")
    assert f">{distance:.4g}</td>" in page


def test_the_page_draws_each_column_beside_the_references_own_windows(moved_workspace: Workspace) -> None:
    page = watch_report(moved_workspace, week(3))
    evidence = moved_workspace.evidence.get(state_of(moved_workspace).drift[week(3)].report)
    assert "grey dots: each reference window from the other ones" in page
    for column in evidence["columns"]:
        usual = column["reference_distances"]
        assert len(usual) == 2
        assert f"2 reference windows up to {max(usual):.4g}</title>" in page


def test_what_validation_said_of_the_snapshot_stands_in_the_same_page(tmp_path: Path) -> None:
    workspace = judged_week(tmp_path, moved_weeks())
    published = state_of(workspace).published[week(3)]
    report = workspace.evidence.get(published.report)
    failed = {
        "type": "expect_column_values_to_be_between",
        "column": "x",
        "severity": "warning",
        "success": False,
        "unexpected": 17,
        "by_row": True,
        "rows": [1, 2],
        "observed": "",
        "declared": "max_value 3",
    }
    digest = workspace.evidence.put({**report, "expectations": [failed]})
    again = {**published.to_json(), "report": digest, "publication": None}
    workspace.record_fact(draft_of(workspace, "snapshot_published", "again", week(3), **again))
    page = Document(watch_report(workspace, week(3)))
    assert "1 of 1 expectations failed." in page.text
    assert {"expect_column_values_to_be_between", "max_value 3", "17", "failed"} <= set(page.texts)


def test_the_checks_that_were_made_stand_in_the_page(tmp_path: Path) -> None:
    workspace = judged_week(tmp_path, moved_weeks())
    rows = [{"key": f"row {number}", "reasons": [f"x: above {number}"]} for number in range(30)]
    report = workspace.evidence.put({"unlike": rows, "edges": [1, 2], "auc": 0.93})
    workspace.record_fact(
        draft_of(
            workspace,
            "window_judged",
            "check",
            week(3),
            check="multivariate",
            verdict="alarm",
            message="told apart with AUC 0.93",
            champion="1",
            rows=600,
            numbers={"auc": 0.93},
            report=report,
            schema=1,
        )
    )
    texts = Document(watch_report(workspace, week(3))).texts
    assert {"Check: multivariate", "alarm: told apart with AUC 0.93", "0.93"} <= set(texts)
    assert {"x: above 0", "x: above 19"} <= set(texts)
    assert "x: above 20" not in texts
    assert "row 0" not in texts, "the key of a row outlives the row in a kept page"


def test_of_very_many_slices_the_worst_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    workspace = judged_week(tmp_path, moved_weeks())
    slices = [
        {"column": "place", "slice": f"place {number}", "rows": 200, "verdict": "no alarm", "worse_by": number / 10_000}
        for number in range(1_000)
    ]
    slices.append({"column": "place", "slice": "bad", "rows": 200, "verdict": "alarm", "worse_by": 0.05})
    report = workspace.evidence.put({"slices": slices, "too_small": {"place": 7}})
    details = {**state_of(workspace).performance[week(3)].to_json(), "report": report, "schema": 1}
    workspace.record_fact(draft_of(workspace, "window_judged", "again", week(3), **details))
    page = Document(watch_report(workspace, week(3)))
    assert {"bad", "place 999", "place 801"} <= set(page.texts)
    assert "place 800" not in page.texts
    assert "801 more slices" in page.text
    assert "7 slices have too few labelled rows" in page.text


def test_a_scored_week_that_nothing_was_said_of_has_a_page_that_says_so(tmp_path: Path) -> None:
    workspace = scored_week(tmp_path, {number: toy_rows(number) for number in range(4)})
    assert "Nothing was judged of this partition." in Document(watch_report(workspace, week(3))).text


def test_a_partition_that_nobody_knows_has_no_page(moved_workspace: Workspace) -> None:
    with pytest.raises(NotReadyError, match="neither published nor scored"):
        watch_report(moved_workspace, week(9))


def test_lost_evidence_is_told_and_the_rest_of_the_page_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = judged_week(tmp_path, moved_weeks())
    lost_digest, get = state_of(workspace).drift[week(3)].report, workspace.evidence.get

    def read_partly(digest: str) -> Any:
        if digest == lost_digest:
            raise LedgerError(f"evidence {digest} is missing")
        return get(digest)

    monkeypatch.setattr(workspace.evidence, "get", read_partly)
    text = Document(watch_report(workspace, week(3))).text
    assert f"The evidence of drift cannot be read: evidence {lost_digest} is missing" in text
    assert state_of(workspace).performance[week(3)].message in text


def test_a_page_is_kept_and_recorded_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    workspace = judged_week(tmp_path, moved_weeks())
    first = keep_report(workspace, week(3), "drift alarmed")
    assert keep_report(workspace, week(3), "somebody asked") == first
    (record,) = [record for record in list(workspace.ledger.records()) if record.kind == "report_rendered"]
    assert (record.evidence, record.details.why) == ((first,), "drift alarmed")
    assert newest_page(workspace.ledger, workspace.evidence, week(3), "own") == watch_report(workspace, week(3))
    assert newest_page(workspace.ledger, workspace.evidence, week(2), "own") is None


def test_a_page_that_has_something_new_to_say_is_kept_beside_the_old_one(tmp_path: Path) -> None:
    workspace = judged_week(tmp_path, moved_weeks())
    first = keep_report(workspace, week(3), "drift alarmed")
    decide_and_record(workspace, week(3), trigger="person")
    second = keep_report(workspace, week(3), "somebody asked")
    assert first != second
    assert "a person asked for it" in load_page(workspace.evidence, second)
    assert "a person asked for it" not in load_page(workspace.evidence, first)
    assert newest_page(workspace.ledger, workspace.evidence, week(3), "own") == load_page(workspace.evidence, second)


def test_evidence_that_is_no_page_is_not_given_out_as_one(moved_workspace: Workspace) -> None:
    with pytest.raises(LedgerError, match="is no page"):
        load_page(moved_workspace.evidence, state_of(moved_workspace).drift[week(3)].report)
