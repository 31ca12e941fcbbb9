"""Validation: each row is published or quarantined with every reason, or the partition is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DataError, DeclarationError, PartitionRefusedError
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult, read_suite
from airflow_mlops.core.validation.validate_snapshot import ValidatedSnapshot, validate_snapshot
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import toy_fields, toy_rows, week

ROWS = 100


class FixedValidator:
    """A validator that returns the results it was given, or raises the first error among them."""

    def __init__(self, *results: ExpectationResult | Exception) -> None:
        self.results = results

    def check(self, rows: pa.Table, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
        for result in self.results:
            if isinstance(result, Exception):
                raise result
        return [result for result in self.results if isinstance(result, ExpectationResult)]


def by_row(column: str, rows: Sequence[int], severity: str = "critical") -> ExpectationResult:
    return ExpectationResult("expect_it", column, severity, not rows, len(rows), bool(rows), tuple(rows))


def about_table(severity: str = "critical", *, success: bool = False) -> ExpectationResult:
    return ExpectationResult("expect_mean", "x", severity, success, 0, False, observed="7.5")


def workspace_in(tmp_path: Path, tolerance: float = 0.5) -> Workspace:
    fields = toy_fields()
    fields["data"] |= {"tolerance": tolerance, "expectations": "suite.yaml"}
    (tmp_path / "suite.yaml").write_text("expectations:\n  - {type: expect_it, kwargs: {column: x}}\n")
    return in_memory_workspace(Loop(**fields), {week(0): toy_rows(0, rows=ROWS)}, scratch=tmp_path)


def validate(workspace: Workspace, *results: ExpectationResult | Exception) -> ValidatedSnapshot:
    return validate_snapshot(workspace, take_snapshot(workspace, week(0)), FixedValidator(*results))


positions = st.lists(st.integers(0, ROWS - 1), unique=True, max_size=30).map(sorted)


@settings(max_examples=40)
@given(positions, positions)
def test_every_row_that_arrived_is_published_or_in_quarantine_with_every_reason(
    tmp_path_factory: pytest.TempPathFactory, first: list[int], second: list[int]
) -> None:
    workspace = workspace_in(tmp_path_factory.getbasetemp(), tolerance=0.99)
    result = validate(workspace, by_row("x", first), by_row("kind", second))
    bad = sorted({*first, *second})
    assert (result.rows, result.quarantined) == (ROWS - len(bad), len(bad))
    published = workspace.snapshots.read(week(0), version=result.version)
    assert content_digest(published) == result.digest
    ids = {f"0-{row}" for row in range(ROWS)}
    assert set(published.column("id").to_pylist()) == ids - {f"0-{row}" for row in bad}
    if not bad:
        with pytest.raises(DataError):
            workspace.quarantine.read(week(0))
        return
    quarantined_rows = workspace.quarantine.read(week(0)).to_pylist()
    assert {row["key"]: json.loads(row["reasons"]) for row in quarantined_rows} == {
        f"0-{row}": ["x: expect_it"] * (row in first) + ["kind: expect_it"] * (row in second) for row in bad
    }


@pytest.mark.parametrize(
    ("bad", "tolerance", "good"), [(5, 0.05, True), (6, 0.05, False), (1, 0.0, False), (0, 0.0, True)]
)
def test_more_bad_rows_than_the_tolerance_refuse_the_partition_and_are_kept_all_the_same(
    tmp_path: Path, bad: int, tolerance: float, good: bool
) -> None:
    workspace = workspace_in(tmp_path, tolerance)
    result = by_row("x", range(bad))
    if good:
        assert validate(workspace, result).quarantined == bad
        return
    with pytest.raises(PartitionRefusedError, match=rf"{bad} of 100 rows are bad .*most often x: expect_it \({bad}"):
        validate(workspace, result)
    assert workspace.quarantine.read(week(0)).num_rows == bad
    assert workspace.state().refused[week(0)].stage == "validation"
    assert not workspace.state().published


def test_a_critical_expectation_about_the_whole_refuses_the_partition(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    with pytest.raises(PartitionRefusedError, match=r"x: expect_mean failed for the whole partition; observed 7\.5"):
        validate(workspace, about_table())
    assert list(workspace.state().refused) == [week(0)]


def test_warnings_are_recorded_and_change_nothing(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, 0.0)
    result = validate(workspace, about_table("warning"), by_row("x", [1, 2], "warning"), by_row("x", [3], "info"))
    assert (result.rows, result.quarantined) == (ROWS, 0)
    report = workspace.evidence.get(result.report)
    assert [(expectation["severity"], expectation["success"]) for expectation in report["expectations"]] == [
        ("warning", False),
        ("warning", False),
        ("info", False),
    ]


def test_an_engine_that_cannot_evaluate_refuses_the_partition(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    with pytest.raises(PartitionRefusedError):
        validate(workspace, PartitionRefusedError("expect_it could not be evaluated: no such column"))
    assert "could not be evaluated" in workspace.state().refused[week(0)].reason


def test_validating_what_was_published_before_adopts_its_outcome(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    manifest = take_snapshot(workspace, week(0))
    first = validate_snapshot(workspace, manifest, FixedValidator(by_row("x", [4])))
    publish_snapshot(workspace, manifest, first)
    again = validate_snapshot(
        workspace, take_snapshot(workspace, week(0)), FixedValidator(AssertionError("asked again"))
    )
    assert again == first


def test_a_suite_is_read_with_its_severities(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        "expectations:\n  - {type: expect_a, kwargs: {column: x}}\n  - {type: expect_b, kwargs: {}, severity: info}\n"
    )
    assert [(expectation.type, expectation.severity) for expectation in read_suite(path)] == [
        ("expect_a", "critical"),
        ("expect_b", "info"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("expectations:\n  - {type: 7, kwargs: {}}", 2, "expectations.0.type"),
        ("expectations:\n  - {type: expect_a}", 2, "expectations.0.kwargs"),
        ("expectations:\n  - {type: expect_a, kwargs: {}}\n  - {type: a, kwargs: {}}", 3, "expectations.1.type"),
        ("expectations:\n  - {type: expect_a, kwargs: {}, severty: info}", 2, "severty"),
        ("expectation: []", 1, "expectations"),
        ("7", 1, "Input should be a valid dictionary"),
        ("", 1, "Input should be a valid dictionary"),
    ],
)
def test_a_wrong_suite_is_a_declaration_error_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(DeclarationError) as caught:
        read_suite(path)
    assert (caught.value.line, caught.value.file) == (line, str(path))
    assert message in caught.value.message


def test_results_are_json_without_the_positions() -> None:
    result: dict[str, Any] = by_row("x", [1, 2]).to_dict()
    assert "rows" not in result
    assert json.loads(json.dumps(result))["unexpected"] == 2
