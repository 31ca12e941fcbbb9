"""Validation by Great Expectations on data frames: cheaply first, row by row only where it fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult

ROW = "__row__"


class GxValidator:
    """Great Expectations in an ephemeral context. See :class:`Validator`."""

    def check(self, rows: pa.Table, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
        """Return one result for each expectation, in order."""
        if not expectations:
            return []
        batch = _batch(rows)
        cheap = [_validated(batch, expectation, "BOOLEAN_ONLY") for expectation in expectations]
        return [
            _result(expectation, outcome if outcome.success else _validated(batch, expectation, "COMPLETE"))
            for expectation, outcome in zip(expectations, cheap, strict=True)
        ]


def _batch(rows: pa.Table) -> Any:
    # Great Expectations logs a line for each of its functions once another package has set up logging.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    frame = rows.to_pandas()
    frame[ROW] = range(len(frame))
    definition = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    return definition.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})


def _validated(batch: Any, expectation: Expectation, detail: str) -> Any:
    from great_expectations.expectations.registry import get_expectation_impl

    try:
        implementation = get_expectation_impl(expectation.type)
        declared = implementation(**expectation.kwargs)
        form: dict[str, Any] = {"result_format": detail}
        if detail == "COMPLETE":
            form["unexpected_index_column_names"] = [ROW]
        outcome = batch.validate(declared, result_format=form)
    except Exception as error:  # the library raises many kinds; all of them mean "not evaluated"
        raise PartitionRefusedError(f"{expectation.type} could not be evaluated: {error}") from error
    raised = _exception_in(outcome.exception_info)
    if raised:
        raise PartitionRefusedError(f"{expectation.type} could not be evaluated: {raised}")
    return outcome


def _exception_in(info: Any) -> str:
    """Return the message of an engine fault, which Great Expectations reports like failed data."""
    if not isinstance(info, dict):
        return ""
    if info.get("raised_exception"):
        return str(info.get("exception_message"))
    nested = [_exception_in(value) for value in info.values() if isinstance(value, dict)]
    return next((message for message in nested if message), "")


def _result(expectation: Expectation, outcome: Any) -> ExpectationResult:
    from great_expectations.expectations.expectation import ColumnMapExpectation, MulticolumnMapExpectation
    from great_expectations.expectations.registry import get_expectation_impl

    found = outcome.result or {}
    by_row = issubclass(get_expectation_impl(expectation.type), ColumnMapExpectation | MulticolumnMapExpectation)
    positions = tuple(int(entry[ROW]) for entry in found.get("unexpected_index_list") or [])
    return ExpectationResult(
        type=expectation.type,
        column=expectation.kwargs.get("column"),
        severity=expectation.severity,
        success=bool(outcome.success),
        unexpected=int(found.get("unexpected_count") or 0),
        by_row=by_row and bool(positions),
        rows=positions,
        observed=str(found.get("observed_value", ""))[:200],
    )
