"""Validate data frames with Great Expectations: first pass or fail alone, then the rows of failed expectations.

All expectations of a pass go into one call: the engine digests the whole frame in every call and shares computations
between expectations, so single calls cost seven times as much. The frame holds only the columns that the expectations
read. Bad rows are requested by the index of the frame, which is the position of the row: that list is complete, and
other forms of it are cut.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.frame_types import as_objects, fill_nulls, frame_of, nullable_columns
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError
from airflow_mlops.core.validation.suite import (
    Expectation,
    ExpectationResult,
    columns_read,
    named_columns,
    read_suite_with_lines,
)
from airflow_mlops.core.validation.typed_limits import typed_limits

PASS_OR_FAIL: dict[str, Any] = {"result_format": "BOOLEAN_ONLY"}
EVERY_ROW: dict[str, Any] = {"result_format": "COMPLETE"}
NUMBER = "airflow_mlops_number"


class GxValidator:
    """Great Expectations in an ephemeral context; see :class:`Validator`."""

    def check(self, rows: pa.Table, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
        """Return one result for each expectation, in order."""
        if not expectations:
            return []
        needed = columns_read(expectations)
        table = rows if needed is None else rows.select([name for name in rows.column_names if name in needed])
        frame = plain_where_full(frame_of(table))
        kinds = dict(zip(table.schema.names, table.schema.types, strict=True))
        expectations = [with_typed_limits(expectation, kinds) for expectation in expectations]
        decimals = [name for name, kind in kinds.items() if pa.types.is_decimal(kind)]
        as_floats = partial(decimals_as_floats, decimals=decimals)
        forms = [
            as_floats if is_sum_of_decimals(expectation, decimals) else frame_form(expectation, frame)
            for expectation in expectations
        ]
        results: dict[int, ExpectationResult] = {}
        for form in dict.fromkeys(forms):
            numbers = [number for number, own_form in enumerate(forms) if own_form is form]
            chosen = [expectations[number] for number in numbers]
            results |= zip(numbers, evaluate(create_batch(form(frame)), chosen, detailed=EVERY_ROW), strict=True)
        return [results[number] for number in range(len(expectations))]


def plain_where_full(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with plain integers and booleans in columns without a null, of which the values are the same.

    The engine goes through a column of ``Int64`` value by value in Python, and compares a plain one as a whole.
    """
    plain = {"Int64": "int64", "boolean": "bool"}
    full = {
        name: plain[str(kind)] for name, kind in frame.dtypes.items() if str(kind) in plain and not frame[name].hasnans
    }
    return frame.astype(full) if full else frame


def with_typed_limits(expectation: Expectation, kinds: Mapping[str, pa.DataType]) -> Expectation:
    """Return an expectation with limits of the type of its column; PartitionRefusedError if they have none."""
    try:
        return typed_limits(expectation, kinds.get(str(expectation.kwargs.get("column"))))
    except DeclarationError as error:
        raise PartitionRefusedError(f"could not be evaluated: {error.message}") from None


def frame_form(expectation: Expectation, frame: pd.DataFrame) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return the function that gives a frame the types in which the engine can evaluate an expectation.

    The engine asks for the truth value of comparisons within a row, which ``pandas.NA`` does not have, and it does not
    know ``Int64`` among the types of a list. Everything else is evaluated on the frame as it is.
    """
    columns = named_columns(expectation)
    if set(columns).isdisjoint(nullable_columns(frame)):
        return unchanged
    if expectation.type in _READS_TYPES:
        return fill_nulls
    return as_objects if len(columns) > 1 else unchanged


def is_sum_of_decimals(expectation: Expectation, decimals: Collection[str]) -> bool:
    """Return whether an expectation is about a column of decimals as a whole: its mean, sum, or extremes."""
    return not expectation.type.startswith("expect_column_values_") and expectation.kwargs.get("column") in decimals


def decimals_as_floats(frame: pd.DataFrame, decimals: Collection[str]) -> pd.DataFrame:
    """Return the frame with floats for decimals: a mean or a sum of objects with a null among them has no value."""
    return frame.assign(**{name: frame[name].astype(float) for name in decimals})


def unchanged(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame itself."""
    return frame


_READS_TYPES = frozenset({"expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"})


@dataclass(frozen=True)
class Fault:
    """An expectation that the engine could not evaluate, which says nothing about the data."""

    expectation: Expectation
    message: str


def load_great_expectations() -> Any:
    """Import and return Great Expectations, with analytics off unless the environment turns them on."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # It logs a line for each of its functions once another package has configured logging.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx

    # The import gives this one a level of its own.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    return gx


def create_context() -> Any:
    """Return a context in memory, without progress bars, that logs warnings only."""
    context = load_great_expectations().get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def create_batch(frame: pd.DataFrame) -> Any:
    """Return a frame as a batch whose index is the position of the row, also without any column."""
    frame.index = pd.RangeIndex(len(frame))
    source = create_context().data_sources.add_pandas("pandas")
    definition = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    return definition.get_batch({"dataframe": frame})


def evaluate(
    batch: Any, expectations: Sequence[Expectation], *, detailed: dict[str, Any], rows: bool = True
) -> list[ExpectationResult]:
    """Return one result for each expectation: first pass or fail, then the failed ones in detail.

    Parameters
    ----------
    batch : Batch
        The data, a batch of Great Expectations.
    expectations : sequence of Expectation
        The expectations, in the order of the results.
    detailed : dict
        Result format for the failed expectations.
    rows : bool
        Whether results give the positions of bad rows.

    Raises
    ------
    PartitionRefusedError
        If the engine cannot evaluate an expectation; names each of them.
    """
    outcomes = _evaluate_once(batch, expectations, PASS_OR_FAIL)
    failed = [number for number, outcome in enumerate(outcomes) if not outcome.success]
    if failed:
        details = _evaluate_once(batch, [expectations[number] for number in failed], detailed)
        for number, outcome in zip(failed, details, strict=True):
            outcomes[number] = outcome
    return [to_result(*pair, rows=rows) for pair in zip(expectations, outcomes, strict=True)]


def _evaluate_once(batch: Any, expectations: Sequence[Expectation], form: dict[str, Any]) -> list[Any]:
    """Return the engine's outcome of each expectation, in order, all evaluated in one call."""
    built = [build_expectation(expectation, number) for number, expectation in enumerate(expectations)]
    refuse_faults([fault for fault in built if isinstance(fault, Fault)])
    suite = load_great_expectations().ExpectationSuite(name="declared", expectations=built)
    try:
        result = batch.validate(suite, result_format=form)
    except Exception as error:  # the library raises many kinds; all of them mean "not evaluated"
        names = ", ".join(sorted({expectation.type for expectation in expectations}))
        raise PartitionRefusedError(f"{names} could not be evaluated: {error}") from error
    # The engine reorders the outcomes; each expectation carries its number.
    by_number = {outcome.expectation_config.meta[NUMBER]: outcome for outcome in result.results}
    outcomes = [by_number[number] for number in range(len(expectations))]
    messages = [find_exception(outcome.exception_info) for outcome in outcomes]
    refuse_faults([Fault(*pair) for pair in zip(expectations, messages, strict=True) if pair[1]])
    return outcomes


def build_expectation(expectation: Expectation, number: int) -> Any:
    """Return the library's object of an expectation, or a :class:`Fault` if it cannot be made."""
    from great_expectations.expectations.registry import get_expectation_impl

    try:
        return get_expectation_impl(expectation.type)(**expectation.kwargs, meta={NUMBER: number})
    except Exception as error:  # errors of pydantic, of the registry, and of custom expectations
        return Fault(expectation, str(error))


def refuse_faults(faults: Sequence[Fault]) -> None:
    """Raise PartitionRefusedError if there are faults; names up to five expectations and their columns."""
    if faults:
        message = "; ".join(
            f"{fault.expectation.type} could not be evaluated{_on(fault.expectation)}: {fault.message[:300]}"
            for fault in faults[:5]
        )
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise PartitionRefusedError(message + more)


def _on(expectation: Expectation) -> str:
    return f" on {expectation.column}" if expectation.column else ""


def find_exception(info: Any) -> str:
    """Return the message of an engine fault, which Great Expectations reports like failed data; empty without one."""
    if not isinstance(info, dict):
        return ""
    if info.get("raised_exception"):
        return str(info.get("exception_message"))
    nested = [find_exception(value) for value in info.values() if isinstance(value, dict)]
    return next((message for message in nested if message), "")


def to_result(expectation: Expectation, outcome: Any, *, rows: bool) -> ExpectationResult:
    """Return the outcome of an expectation as a result, with the positions of bad rows if ``rows`` is true."""
    from great_expectations.expectations.expectation import ColumnMapExpectation, MulticolumnMapExpectation
    from great_expectations.expectations.expectation import ColumnPairMapExpectation as PairMapExpectation
    from great_expectations.expectations.registry import get_expectation_impl

    details = outcome.result or {}
    row_expectations = ColumnMapExpectation | PairMapExpectation | MulticolumnMapExpectation
    by_row = rows and issubclass(get_expectation_impl(expectation.type), row_expectations)
    positions = details.get("unexpected_index_list") or [] if by_row and not outcome.success else []
    return ExpectationResult(
        type=expectation.type,
        column=expectation.column,
        severity=expectation.severity,
        success=bool(outcome.success),
        unexpected=int(details.get("unexpected_count") or 0),
        by_row=bool(positions),
        rows=tuple(map(int, positions)),
        observed=str(details.get("observed_value", ""))[:200],
        declared=expectation.limits,
    )


def check_suite_file(path: str | Path) -> int:
    """Check the types and arguments of the expectations in a YAML file without data, and return their number.

    Raises
    ------
    DeclarationError
        If Great Expectations does not know an expectation or refuses its arguments; names the file, the line and the
        nearest expectation.
    """
    expectations = read_suite_with_lines(path)
    load_great_expectations()
    from great_expectations.expectations import core
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    types = list_registered_expectation_implementations()
    assert core is not None  # its import fills the registry
    for number, (expectation, line) in enumerate(expectations):
        where = f"expectations[{number}]"
        if expectation.type not in types:
            hint = suggest_name(expectation.type, types)
            raise DeclarationError(
                f"{expectation.type} is no expectation"
                + (f"; {hint}" if hint.startswith("did you mean") else " of Great Expectations"),
                file=str(path),
                line=line,
                key=f"{where}.type",
            )
        built = build_expectation(expectation, number)
        if isinstance(built, Fault):
            message = " ".join(built.message.split())[:300]
            raise DeclarationError(f"{expectation.type}: {message}", file=str(path), line=line, key=f"{where}.kwargs")
    return len(expectations)
