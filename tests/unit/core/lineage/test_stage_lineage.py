"""The lineage of each stage of a loop, read from its ledger and compared with what the loop did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.lineage.data_lineage import (
    assertions_of,
    label_lineage,
    publication_lineage,
    snapshot_lineage,
    validation_lineage,
)
from airflow_mlops.core.lineage.dataset_names import DatabaseAddress, champion_dataset
from airflow_mlops.core.lineage.declared_sources import SourceNames
from airflow_mlops.core.lineage.model_lineage import (
    registration_lineage,
    rollout_lineage,
    score_lineage,
    watch_lineage,
    window_dataset,
)
from airflow_mlops.core.lineage.task_lineage import Assertion, Dataset, PartitionVersion
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.suite import ExpectationResult
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.later_labels import arrive, deliver, labelled_workspace, labels_by_key, weeks
from tests.unit.core.toy_loop import loop_with_champion, toy_loop, toy_rows, week


def no_database(conn_id: str) -> DatabaseAddress:
    raise DeclarationError(f"no connection {conn_id!r}")


class FirstRowIsBad:
    """A validator whose one expectation fails for the first row."""

    def check(self, rows: Any, expectations: Any) -> list[ExpectationResult]:
        kind, column = "expect_column_values_to_not_be_null", "x"
        return [ExpectationResult(kind, column, "critical", False, 1, True, rows=(0,), observed="17.25")]


def names_of(workspace: Workspace) -> SourceNames:
    """Return the surroundings that name the sources of a workspace."""
    return SourceNames(workspace.root, workspace.connections, no_database)


def table(datasets: tuple[Dataset, ...]) -> list[str]:
    """Return the last part of each name."""
    return [dataset.name.name.rpartition("/")[2] for dataset in datasets]


@pytest.fixture
def loop_workspace(tmp_path: Path) -> Workspace:
    """A loop with a first champion."""
    return loop_with_champion(tmp_path)


def test_bad_rows_of_a_validation_are_a_second_output(tmp_path: Path) -> None:
    rule = "  - {type: expect_column_values_to_not_be_null, kwargs: {column: x}, severity: critical}"
    (tmp_path / "suite.yaml").write_text(f"expectations:\n{rule}\n")
    loop = toy_loop()
    data = loop.data.model_copy(update={"expectations": "suite.yaml"})
    workspace = in_memory_workspace(loop.model_copy(update={"data": data}), {week(0): toy_rows(0)}, scratch=tmp_path)
    manifest = take_snapshot(workspace, week(0))
    taken = snapshot_lineage(workspace, names_of(workspace), manifest.to_dict())
    assert (table(taken.inputs), table(taken.outputs)) == (["{partition}.parquet"], ["snapshots"])
    assert taken.outputs[0].version == f"{week(0)}@{manifest.version}:{manifest.digest}"
    validated = validate_snapshot(workspace, manifest, FirstRowIsBad())
    judged = validation_lineage(workspace, manifest.to_dict(), validated.to_dict())
    assert table(judged.outputs) == ["snapshots", "quarantine"]
    assert [dataset.rows for dataset in judged.outputs] == [119, 1]
    assert judged.inputs[0].version == taken.outputs[0].version
    assert judged.inputs[0].assertions[0] == Assertion(
        "expect_column_values_to_not_be_null", False, "x", "error", None, "1 unexpected rows"
    )
    assert "17.25" not in repr(judged)
    publish_snapshot(workspace, manifest, validated)
    published = publication_lineage(workspace, names_of(workspace), week(0))
    assert published.outputs[0].version == judged.outputs[0].version
    assert published.outputs[0].columns == manifest.columns


def test_a_partition_that_was_refused_has_its_source_alone(loop_workspace: Workspace) -> None:
    refused = snapshot_lineage(loop_workspace, names_of(loop_workspace), None)
    assert (table(refused.inputs), refused.outputs) == (["{partition}.parquet"], ())


def test_a_delivery_of_labels_leads_from_its_own_source_to_the_table_of_labels(tmp_path: Path) -> None:
    rows = weeks(2)
    workspace = labelled_workspace(tmp_path, rows)
    arrive(workspace, 0, rows=rows)
    deliver(workspace, week(1), labels_by_key(rows[week(0)]))
    details = take_labels(workspace, week(1))
    lineage = label_lineage(workspace, names_of(workspace), [{"partition": week(1)}])
    assert [dataset.name.name for dataset in lineage.inputs] == [f"{tmp_path}/labels/{{partition}}.parquet"]
    assert (table(lineage.outputs), lineage.outputs[0].rows) == (["labels"], 120)
    assert lineage.outputs[0].version == f"{week(1)}@{details.version}:{details.digest}"


def test_a_check_without_enough_history_has_no_result() -> None:
    finding = {"check": "row_count", "column": None, "severity": "warning", "value": 1.0, "limit": 2.0, "words": "few"}
    report = {"history": [{**finding, "verdict": "too little history"}, {**finding, "verdict": "fail"}]}
    assert assertions_of(report) == (Assertion("row_count", False, None, "warn", "2", "1"),)


def test_a_version_comes_from_every_partition_of_its_window(loop_workspace: Workspace) -> None:
    state = loop_workspace.state()
    details = state.versions["1"].details
    evaluated = {"candidate": details.candidate, "digest": details.artefact}
    lineage = registration_lineage(loop_workspace, details.window, evaluated, {"version": "1"})
    window, candidate = lineage.inputs
    assert {part.identifier for part in window.parts} == {
        PartitionVersion(pin.partition, state.published[pin.partition].version, pin.digest).text
        for pin in details.window.pins
    }
    newest = max(pin.partition for pin in details.window.pins)
    assert window.version is not None
    assert window.version.startswith(newest)
    assert candidate.version == details.artefact
    assert (lineage.outputs[0].name.name, lineage.outputs[0].version, lineage.version) == ("toy", "1", "1")
    failed = registration_lineage(loop_workspace, details.window, evaluated, None)
    assert (failed.inputs, failed.outputs, failed.version) == (lineage.inputs, (), None)
    assert window_dataset(loop_workspace, []) == ()


def test_predictions_come_from_the_snapshot_and_the_champion(loop_workspace: Workspace) -> None:
    key = week(3)
    assert score_lineage(loop_workspace, week(9)).inputs == ()
    assert watch_lineage(loop_workspace, key).inputs == ()
    before = score_lineage(loop_workspace, key)
    assert (table(before.inputs), before.outputs) == (["snapshots"], ())
    details = score_partition(loop_workspace, key)
    scored = score_lineage(loop_workspace, key)
    assert table(scored.inputs) == ["snapshots", "toy"]
    assert scored.inputs[0].version == before.inputs[0].version
    assert [part.identifier for part in scored.inputs[1].parts] == ["1"]
    assert (table(scored.outputs), scored.outputs[0].rows) == (["predictions"], details.rows)
    assert watch_lineage(loop_workspace, key).inputs[0].version == scored.outputs[0].version


def test_what_serves_is_the_champion_whatever_version_is_rolled_out(loop_workspace: Workspace) -> None:
    lineage = rollout_lineage(loop_workspace, champion_dataset(loop_workspace), "2")
    assert [dataset.version for dataset in lineage.inputs] == ["2"]
    assert [(dataset.name.name, dataset.version) for dataset in lineage.outputs] == [("toy@champion", "1")]
