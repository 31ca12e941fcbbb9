"""Labels that come after their rows: windows are judged as they come, trainings stay what they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DataError, NotReadyError
from airflow_mlops.core.governance.reproduce_version import reproduce_version, request_of
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.ledger.watch_details import PerformanceJudged
from airflow_mlops.core.ports.partitions import PartitionedTable
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.window import pin_published, pin_window, read_labels, read_partition, read_window
from airflow_mlops.core.watch.performance.measure_performance import (
    labelled_predictions,
    measure_performance,
    rejudge_performance,
)
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.later_labels import (
    arrive,
    deliver,
    labelled_fields,
    labelled_workspace,
    labels_by_key,
    weeks,
    with_champion,
)
from tests.unit.core.toy_loop import ingest, loop_with_champion, toy_rows, train, week

ROWS = weeks(9)


def watch_week(workspace: Workspace, number: int, labels: Mapping[str, float] | None) -> None:
    """Deliver labels and rows of a week, and watch it."""
    if labels is not None:
        deliver(workspace, week(number), dict(labels))
        take_labels(workspace, week(number))
    ingest(workspace, week(number))
    score_partition(workspace, week(number))
    rejudge_performance(workspace, week(number))
    measure_performance(workspace, week(number))
    decide_and_record(workspace, week(number), trigger="watch")


def newest_verdict(workspace: Workspace, number: int) -> PerformanceJudged:
    """Return the newest verdict on a week."""
    return workspace.state().performance[week(number)]


def looks(workspace: Workspace, number: int) -> int:
    """Return how often a week was judged."""
    return sum(
        getattr(record.details, "check", None) == "performance" and record.partition == week(number)
        for record in list(workspace.ledger.records())
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return with_champion(tmp_path, ROWS)


def test_a_window_is_judged_when_its_labels_come_and_only_then(workspace: Workspace) -> None:
    watch_week(workspace, 4, labels_by_key(ROWS[week(3)]))
    assert (newest_verdict(workspace, 4).verdict, newest_verdict(workspace, 4).rows) == ("insufficient data", 0)
    assert newest_verdict(workspace, 4).message == "0 of 120 rows have a label, 100 are needed"
    watch_week(workspace, 5, labels_by_key(ROWS[week(4)]))
    verdict = newest_verdict(workspace, 4)
    assert (verdict.verdict, verdict.rows, verdict.as_of, verdict.historical) == ("no alarm", 120, week(5), False)
    assert verdict.low < verdict.value < verdict.high
    assert looks(workspace, 4) == 2


def test_labels_that_show_a_bad_model_alarm_though_their_window_is_not_the_newest(workspace: Workspace) -> None:
    watch_week(workspace, 4, None)
    watch_week(workspace, 5, labels_by_key(ROWS[week(4)], plus=9.0))
    assert newest_verdict(workspace, 4).verdict == "alarm"
    assert newest_verdict(workspace, 4).alarmed == ("whole",)


def test_labels_that_never_come_are_no_verdict_and_stop_nothing(workspace: Workspace) -> None:
    for number in range(4, 8):
        watch_week(workspace, number, None)
    assert {newest_verdict(workspace, number).verdict for number in range(4, 8)} == {"insufficient data"}
    assert {looks(workspace, number) for number in range(4, 8)} == {1}


def test_the_same_labels_again_are_looked_at_once(workspace: Workspace) -> None:
    watch_week(workspace, 4, None)
    watch_week(workspace, 5, labels_by_key(ROWS[week(4)]))
    before = list(workspace.ledger.records())
    take_labels(workspace, week(5))
    assert rejudge_performance(workspace, week(5)) == []
    measure_performance(workspace, week(4))
    assert list(workspace.ledger.records()) == before


def test_a_correction_of_another_window_s_labels_does_not_judge_this_one_again(workspace: Workspace) -> None:
    watch_week(workspace, 4, None)
    watch_week(workspace, 5, labels_by_key(ROWS[week(4)]))
    deliver(workspace, week(5), labels_by_key(ROWS[week(4)]) | {"nobody": 1.0})
    assert take_labels(workspace, week(5)).replaces
    assert rejudge_performance(workspace, week(5)) == []


def test_corrected_labels_judge_their_window_again_and_can_take_an_alarm_back(workspace: Workspace) -> None:
    watch_week(workspace, 4, None)
    watch_week(workspace, 5, labels_by_key(ROWS[week(4)], plus=9.0))
    watch_week(workspace, 6, None)
    assert newest_verdict(workspace, 4).verdict == "alarm"
    deliver(workspace, week(5), labels_by_key(ROWS[week(4)]))
    take_labels(workspace, week(5))
    watch_week(workspace, 7, None)
    assert (newest_verdict(workspace, 4).verdict, newest_verdict(workspace, 4).historical) == ("no alarm", True)
    assert looks(workspace, 4) == 3


def test_a_correction_of_a_window_that_was_judged_is_historical_and_never_alarms(workspace: Workspace) -> None:
    watch_week(workspace, 4, None)
    for number in (5, 6, 7):
        watch_week(workspace, number, labels_by_key(ROWS[week(number - 1)]))
    deliver(workspace, week(5), labels_by_key(ROWS[week(4)], plus=9.0))
    take_labels(workspace, week(5))
    for as_of in (week(5), week(7)):
        rejudge_performance(workspace, as_of)
        verdict = newest_verdict(workspace, 4)
        assert (verdict.historical, verdict.verdict) == (True, "no alarm")
        assert verdict.value > 5
    watch_week(workspace, 8, None)
    assert newest_verdict(workspace, 4).verdict == "no alarm"


def test_an_alarm_that_a_correction_leaves_standing_is_still_an_alarm(workspace: Workspace) -> None:
    watch_week(workspace, 4, None)
    watch_week(workspace, 5, labels_by_key(ROWS[week(4)], plus=9.0))
    watch_week(workspace, 6, None)
    deliver(workspace, week(5), labels_by_key(ROWS[week(4)], plus=8.0))
    take_labels(workspace, week(5))
    rejudge_performance(workspace, week(6))
    assert (newest_verdict(workspace, 4).verdict, newest_verdict(workspace, 4).historical) == ("alarm", False)


def test_a_run_of_an_old_tick_judges_with_what_was_known_at_the_newest_look(tmp_path: Path) -> None:
    workspace = with_champion(tmp_path, ROWS, until=4, delay=2)
    first = dict(list(labels_by_key(ROWS[week(5)]).items())[:110])
    watch_week(workspace, 5, None)
    watch_week(workspace, 6, first)
    watch_week(workspace, 7, labels_by_key(ROWS[week(5)]))
    assert (newest_verdict(workspace, 5).as_of, newest_verdict(workspace, 5).rows) == (week(7), 120)
    deliver(workspace, week(6), {key: label + 0.5 for key, label in first.items()})
    take_labels(workspace, week(6))
    rejudge_performance(workspace, week(6))
    assert (newest_verdict(workspace, 5).as_of, newest_verdict(workspace, 5).rows) == (week(7), 120)


def test_looks_at_one_window_share_its_alarm_rate(tmp_path: Path) -> None:
    workspace = with_champion(tmp_path, ROWS, until=5, delay=3)
    labels = list(labels_by_key(ROWS[week(6)]).items())
    watch_week(workspace, 6, None)
    rates = []
    for number, rows in ((7, 105), (8, 110), (9, 120)):
        workspace.source.frames[week(number)] = toy_rows(number).drop(columns="y")  # type: ignore[attr-defined]
        watch_week(workspace, number, dict(labels[:rows]))
        rates.append(newest_verdict(workspace, 6).rate)
    assert rates == pytest.approx([0.0125, 0.00625, 0.00625]), "half, half of the rest, all of it at the last delivery"
    assert newest_verdict(workspace, 6).spent == pytest.approx(0.025)


def test_a_training_takes_the_partitions_whose_labels_have_all_come(workspace: Workspace) -> None:
    window = workspace.state().versions["1"].details.window
    assert [pin.partition for pin in (*window.fitted, *window.holdout)] == [week(0), week(1), week(2)]
    assert all(pin.labels for pin in (*window.fitted, *window.holdout))


def test_a_training_waits_for_labels_and_says_so(tmp_path: Path) -> None:
    workspace = labelled_workspace(tmp_path, ROWS)
    for number in range(4):
        ingest(workspace, week(number))
    with pytest.raises(NotReadyError, match=r"0 partitions of 4 published have all their labels .* needs 3"):
        pin_window(workspace.state(), workspace.loop.train, week(3), own_labels=True)
    deliver(workspace, week(1), labels_by_key(ROWS[week(0)]))
    take_labels(workspace, week(1))
    with pytest.raises(NotReadyError, match="1 partitions of 4 published have all their labels"):
        pin_window(workspace.state(), workspace.loop.train, week(3))


def test_a_partition_whose_labels_never_came_is_left_out_of_trainings(tmp_path: Path) -> None:
    workspace = labelled_workspace(tmp_path, ROWS, train={"function": "f:f", "window": 2})
    for number in range(6):
        ingest(workspace, week(number))
        if number not in (0, 3):
            deliver(workspace, week(number), labels_by_key(ROWS[week(number - 1)]))
            take_labels(workspace, week(number))
    window = pin_window(workspace.state(), workspace.loop.train, week(5))
    assert [pin.partition for pin in window.fitted] == [week(1), week(3)]
    assert [pin.partition for pin in window.holdout] == [week(4)]


def test_a_training_sees_no_label_that_came_after_its_partition(tmp_path: Path) -> None:
    workspace = labelled_workspace(tmp_path, ROWS, delay=2, train={"function": "f:f", "window": 2})
    for number in range(7):
        arrive(workspace, number, rows=ROWS, delay=2)
    then = pin_window(workspace.state(as_of=week(4)), workspace.loop.train, week(4))
    deliver(workspace, week(5), labels_by_key(ROWS[week(3)]) | {"2-0": 99.0})
    take_labels(workspace, week(5))
    again = pin_window(workspace.state(as_of=week(4)), workspace.loop.train, week(4))
    assert again == then
    assert read_window(workspace, then.holdout).rows["y"].max() < 99
    late = pin_published(workspace.state(), week(4), week(5))
    assert read_partition(workspace, late, label=True)["y"].isna().all()


def test_a_version_can_be_made_again_after_its_labels_were_corrected(workspace: Workspace) -> None:
    for number in (1, 2, 3):
        deliver(workspace, week(number), labels_by_key(ROWS[week(number - 1)], plus=50.0))
        assert take_labels(workspace, week(number)).replaces
    reproduction = reproduce_version(workspace, "1")
    assert (reproduction.verdict, reproduction.same_file) == ("identical", True)


def test_a_training_on_corrected_labels_is_another_request_and_on_the_same_ones_nothing_new(
    workspace: Workspace,
) -> None:
    version = workspace.state().versions["1"]
    assert version.details.request == request_of(workspace, version).operation
    decide_and_record(workspace, week(3), trigger="person")
    with pytest.raises(NotReadyError, match="nothing new: version 1"):
        assemble_training(workspace, week(3))
    deliver(workspace, week(2), labels_by_key(ROWS[week(1)], plus=1.0))
    take_labels(workspace, week(2))
    decide_and_record(workspace, week(3), trigger="person")
    assert assemble_training(workspace, week(3)).operation != version.details.request


def test_labels_that_were_tampered_with_are_refused(workspace: Workspace) -> None:
    pin = pin_published(workspace.state(), week(0))
    delivery = workspace.state().labels[week(1)]
    stolen = workspace.ports.table("labels").read(week(1), version=delivery.version).slice(1)
    versions = workspace.ports.table("labels")._versions  # type: ignore[attr-defined]
    versions[delivery.version][week(1)] = stolen
    with pytest.raises(DataError, match="the ledger states"):
        read_partition(workspace, pin, label=True)


def test_rows_that_have_labels_of_their_own_keep_them_where_none_is_delivered(tmp_path: Path) -> None:
    rows = {week(0): toy_rows(0)}
    workspace = labelled_workspace(tmp_path, {})
    workspace.source.frames.update(rows)  # type: ignore[attr-defined]
    ingest(workspace, week(0))
    deliver(workspace, week(1), {"0-0": 99.0})
    take_labels(workspace, week(1))
    labels = read_labels(workspace, pin_published(workspace.state(), week(0))).set_index("key")["label"]
    assert labels["0-0"] == 99.0
    assert labels["0-1"] == rows[week(0)]["y"][1]
    assert read_labels(workspace, pin_published(workspace.state(), week(0), week(0)))["label"].notna().all()


def test_without_a_source_of_labels_nothing_asks_for_any(tmp_path: Path) -> None:
    workspace = loop_with_champion(tmp_path)

    def table(name: str) -> PartitionedTable:
        assert name != "labels"
        return workspace.ports.table(name)

    without_source = replace(workspace, ports=replace(workspace.ports, table=table))
    score_partition(without_source, week(3))
    window = without_source.state().versions["1"].details.window
    assert [pin.labels for pin in (*window.fitted, *window.holdout)] == [None] * 3
    assert len(labelled_predictions(without_source, week(3), without_source.state().scored[week(3)])) == 120
    assert reproduce_version(without_source, "1").verdict == "identical"


def test_a_pin_that_is_none_is_said_to_be_none(workspace: Workspace) -> None:
    broken = PinnedPartition(week(0), 0, workspace.state().published[week(0)].digest, "yesterday")
    with pytest.raises(DataError, match="'yesterday' does not pin labels"):
        read_partition(workspace, broken, label=True)


def test_a_stage_that_is_judged_by_labels_holds_until_they_come(tmp_path: Path) -> None:
    workspace = with_champion(tmp_path, ROWS)
    staged = {**labelled_fields(), "rollout": {"stages": [{"shadow": 100}, {"live": 100}], "margin": 0.5}}
    staged["train"] = workspace.loop.train.model_dump()
    workspace = replace(workspace, loop=Loop(**staged))
    arrive(workspace, 4, rows=ROWS)
    train(workspace, week(4))
    start_rollout(workspace, week(4))
    arrive(workspace, 5, rows=ROWS)
    score_partition(workspace, week(5))
    with pytest.raises(NotReadyError, match="0 labelled rows"):
        run_rollout_step(workspace, "2", 0, week(5))
    arrive(workspace, 6, rows=ROWS)
    score_partition(workspace, week(6))
    run_rollout_step(workspace, "2", 0, week(6))
    rollout = workspace.state().rollout
    assert rollout is not None
    assert rollout.settled
    assert [look.details.rows for look in rollout.looks] == [0, 120], "only week 5 has its labels"


def judge_slices_of_week(tmp_path: Path, *slices: str, **made: float) -> tuple[PerformanceJudged, dict[str, Any]]:
    """Judge a week with slices, whose labels came with the next."""
    performance = {"metric": "mae", "worse_by": 0.3, "slices": list(slices), "min_rows": 50}
    rows = weeks(6, rows=1_200)
    workspace = with_champion(tmp_path, rows, watch={"performance": performance})
    watch_week(workspace, 4, None)
    late = rows[week(4)].assign(y=lambda of: of["y"] + of["kind"].map({"a": 0.0, "b": 0.0, "c": 0.0} | made))
    watch_week(workspace, 5, labels_by_key(late))
    judged = newest_verdict(workspace, 4)
    return judged, workspace.evidence.get(judged.report) if judged.report else {}


def test_a_slice_that_got_worse_alarms_by_name_and_the_evidence_has_all_slices(tmp_path: Path) -> None:
    verdict, evidence = judge_slices_of_week(tmp_path, "kind", b=4.0)
    assert verdict.alarmed == ("whole", "kind=b")
    assert verdict.slices["alarm"] == 1
    by_name = {entry["slice"]: entry for entry in evidence["slices"]}
    assert by_name.keys() == {"a", "b", "c"}
    assert by_name["b"]["low"] < by_name["b"]["value"] < by_name["b"]["high"]
    assert sum(entry["rows"] for entry in by_name.values()) == 1_200


def test_slices_that_are_too_small_or_missing_are_told_and_stop_nothing(tmp_path: Path) -> None:
    verdict, evidence = judge_slices_of_week(tmp_path, "kind", "id", "nothing")
    assert (verdict.verdict, verdict.slices["missing"]) == ("no alarm", ["nothing"])
    assert verdict.slices["too_small"] == 1_200
    assert evidence["too_small"] == {"id": 1_200}


def test_the_slices_of_the_holdout_are_measured_once_for_a_version(tmp_path: Path) -> None:
    performance = {"metric": "mae", "worse_by": 0.3, "slices": ["kind"], "min_rows": 20}
    workspace = with_champion(tmp_path, ROWS, watch={"performance": performance})
    watch_week(workspace, 4, None)
    for number in (5, 6, 7):
        watch_week(workspace, number, labels_by_key(ROWS[week(number - 1)]))
    assert len({newest_verdict(workspace, number).holdout_slices for number in (4, 5, 6)}) == 1
    # What was kept is used: the holdout itself is not needed any more.
    workspace.snapshots._versions[:] = [  # type: ignore[attr-defined]
        {key: rows for key, rows in version.items() if key > week(3)}
        for version in workspace.snapshots._versions  # type: ignore[attr-defined]
    ]
    watch_week(workspace, 8, labels_by_key(ROWS[week(7)]))
    assert (
        newest_verdict(workspace, 7).slices["no alarm"] + newest_verdict(workspace, 7).slices["insufficient data"] == 3
    )


def test_where_the_holdout_is_gone_the_whole_is_judged_all_the_same(tmp_path: Path) -> None:
    performance = {"metric": "mae", "worse_by": 0.5, "slices": ["kind"], "min_rows": 20}
    workspace = with_champion(tmp_path, ROWS, watch={"performance": performance})
    workspace.snapshots.purge(week(2))
    for version in workspace.snapshots._versions:  # type: ignore[attr-defined]
        version.pop(week(2), None)
    watch_week(workspace, 4, None)
    watch_week(workspace, 5, labels_by_key(ROWS[week(4)]))
    assert newest_verdict(workspace, 4).verdict == "no alarm"
    assert "no slice can be judged" in newest_verdict(workspace, 4).no_slices
