"""The checks of a partition: each judged once, by itself, whatever becomes of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.errors import NotReadyError, SourceUnreachableError
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.checks import run_checks as running
from airflow_mlops.core.watch.checks.check_result import CheckResult
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.run_checks import CHECKS, rejudge_checks, run_checks
from airflow_mlops.core.watch.checks.watched_window import WINDOW_ROWS, WatchedWindow
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.later_labels import arrive, weeks, with_champion
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week
from tests.unit.core.watch.checks.watched_loop import EVERY_CHECK, ROWS, scored_loop


def check_records(workspace: Workspace) -> list[Record]:
    return [record for record in list(workspace.ledger.records()) if record.kind == "window_judged"]


def test_every_declared_check_is_recorded_once_however_often_it_is_run(tmp_path: Path) -> None:
    workspace = scored_loop(tmp_path)
    first = run_checks(workspace, week(3))
    again = run_checks(workspace, week(3))
    assert first == again
    records = check_records(workspace)
    assert [record.details.check for record in records] == list(EVERY_CHECK)
    publication = workspace.state().scored[week(3)].publication
    assert records[0].operation == f"check:predictions:{week(3)}:{publication}"
    assert {name: check.verdict for name, check in first.items()} == {
        name: check.verdict for name, check in workspace.state().checks_of(week(3)).items()
    }
    assert not any(record.details.failed for record in records)
    assert all(record.details.verdict != "alarm" for record in records)


def test_another_world_alarms_by_all_that_can_see_it(tmp_path: Path) -> None:
    strange = toy_rows(3, rows=2_000, shift=3.0, slope=6.0)
    strange["kind"] = np.where(strange["x"] > 3, "a", "b")
    workspace = scored_loop(tmp_path, changed={3: strange})
    results = run_checks(workspace, week(3))
    alarmed = {name for name, check in results.items() if check.alarms}
    assert alarmed == {"predictions", "multivariate", "reconstruction", "concept"}
    unlike = workspace.evidence.get(str(results["reconstruction"].report))["unlike"]
    assert unlike[0]["key"].startswith("3-")
    assert any("x: above" in reason for reason in unlike[0]["reasons"])


def test_the_alarm_rate_is_shared_among_the_checks() -> None:
    loop = toy_loop(watch={"drift": {"alarm_rate": 0.02}, "checks": ["predictions", "multivariate"]})
    assert CheckTerms.of(loop).alarm_rate == 0.01
    assert CheckTerms.of(toy_loop(watch={"checks": ["predictions"]})).alarm_rate == 0.01


def test_a_historical_window_is_recorded_and_never_alarms(tmp_path: Path) -> None:
    strange = toy_rows(3, rows=2_000, shift=3.0)
    workspace = scored_loop(tmp_path, changed={3: strange}, scored=(3, 4), checks=("predictions",))
    decide_and_record(workspace, week(4), trigger="watch")
    result = run_checks(workspace, week(3))["predictions"]
    assert (result.verdict, result.historical) == ("no alarm", True)
    assert result.message.startswith("historical, so no alarm: ")


def test_eight_rows_without_a_label_are_insufficient_by_every_check(tmp_path: Path) -> None:
    few = toy_rows(3, rows=8)
    few["y"] = None
    workspace = scored_loop(tmp_path, changed={3: few.astype({"y": float})})
    results = run_checks(workspace, week(3))
    assert {name: check.verdict for name, check in results.items()} == dict.fromkeys(EVERY_CHECK, "insufficient data")
    assert all(check.message for check in results.values())


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """The errors that the check ``multivariate`` raises; none while the list is empty."""
    raised: dict[str, Exception] = {}

    def check(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
        if raised:
            raise raised["error"]
        return CHECKS["multivariate"](window, terms)

    monkeypatch.setattr(running, "CHECKS", {**CHECKS, "multivariate": check})
    return raised


def test_a_check_that_raises_stops_no_other_and_is_made_again_later(
    tmp_path: Path, broken: dict[str, Exception]
) -> None:
    workspace = scored_loop(tmp_path, checks=("predictions", "multivariate", "reconstruction"))
    broken["error"] = ZeroDivisionError("a library of somebody else's")
    for _ in range(2):
        results = run_checks(workspace, week(3))
        assert results["multivariate"].verdict == "insufficient data"
        assert "ZeroDivisionError: a library of somebody else's" in results["multivariate"].message
        assert not results["reconstruction"].failed
    assert len(check_records(workspace)) == 3
    broken.clear()
    assert not run_checks(workspace, week(3))["multivariate"].failed
    assert [record.details.check for record in check_records(workspace)][3:] == ["multivariate"]
    assert check_records(workspace)[-1].operation.endswith(":2")


def test_what_may_be_over_soon_is_raised_after_the_others_were_recorded(
    tmp_path: Path, broken: dict[str, Exception]
) -> None:
    workspace = scored_loop(tmp_path, checks=("predictions", "multivariate", "reconstruction"))
    broken["error"] = SourceUnreachableError("the lake does not answer")
    with pytest.raises(SourceUnreachableError):
        run_checks(workspace, week(3))
    assert [record.details.check for record in check_records(workspace)] == ["predictions", "reconstruction"]


def test_a_partition_of_other_content_is_judged_anew(tmp_path: Path) -> None:
    workspace = scored_loop(tmp_path, checks=("predictions",))
    run_checks(workspace, week(3))
    workspace.source.frames[week(3)] = toy_rows(99, rows=ROWS)  # type: ignore[attr-defined]
    ingest(workspace, week(3))
    score_partition(workspace, week(3))
    run_checks(workspace, week(3))
    assert [record.details.snapshot for record in check_records(workspace)] == [
        record.details.snapshot for record in list(workspace.ledger.records()) if record.kind == "predictions_published"
    ]


def test_a_reference_that_is_gone_is_said_and_the_rest_of_it_serves(tmp_path: Path) -> None:
    workspace = scored_loop(tmp_path, checks=("predictions", "estimated_performance"))
    gone = WatchedWindow(workspace, week(3)).champion.details.window.holdout[0]
    workspace.snapshots._versions[gone.version].pop(gone.partition)  # type: ignore[attr-defined]
    results = run_checks(workspace, week(3))
    assert results["predictions"].numbers["reference_windows"] == 2
    assert "holdout can be read" in results["estimated_performance"].message


def test_without_a_declared_check_or_a_scored_partition_there_is_nothing_to_run(tmp_path: Path) -> None:
    workspace = scored_loop(tmp_path, checks=("predictions",))
    with pytest.raises(NotReadyError, match="was not scored"):
        run_checks(workspace, week(2))
    bare = scored_loop(tmp_path / "bare", checks=())
    with pytest.raises(NotReadyError, match="no check is declared"):
        run_checks(bare, week(3))


def test_a_large_window_is_sampled_the_same_way_every_time(tmp_path: Path) -> None:
    large = toy_rows(3, rows=WINDOW_ROWS + 500)
    workspace = scored_loop(tmp_path, checks=("predictions",), changed={3: large})
    earlier, other = WatchedWindow(workspace, week(3)).rows, WatchedWindow(workspace, week(3)).rows
    assert len(earlier) == WINDOW_ROWS
    assert (earlier.keys == other.keys).all()
    by_key: dict[str, Any] = large.set_index("id")["x"].to_dict()
    assert [by_key[key] for key in earlier.keys[:50]] == earlier.features["x"].tolist()[:50]
    assert earlier.predictions == pytest.approx(earlier.predict(earlier.features))
    assert earlier.label[:50] == pytest.approx(large.set_index("id")["y"].loc[earlier.keys[:50]].to_numpy())


def test_checks_of_labels_are_made_again_when_these_have_come_and_then_no_more(tmp_path: Path) -> None:
    rows = weeks(6, rows=400)
    checks = ["label_rate", "predictions", "importance", "concept"]
    workspace = with_champion(tmp_path, rows, watch={"checks": checks})
    arrive(workspace, 4, rows=rows)
    score_partition(workspace, week(4))
    early = run_checks(workspace, week(4))
    assert {name for name, check in early.items() if "0 rows" in check.message or "still come" in check.message} == {
        "label_rate",
        "importance",
        "concept",
    }
    arrive(workspace, 5, rows=rows)
    again = rejudge_checks(workspace, week(5))
    assert [check.check for _, check in again] == ["label_rate", "importance"]
    assert again[0][1].message.startswith("400 of 400 rows have a label")
    assert again[1][1].verdict == "no alarm"
    assert rejudge_checks(workspace, week(5)) == []
    score_partition(workspace, week(5))
    stream = run_checks(workspace, week(5))["concept"]
    assert (stream.verdict, stream.numbers["rows"] - stream.numbers["holdout_rows"]) == ("no alarm", 400)
