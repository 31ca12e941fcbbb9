"""Validation by Great Expectations on data frames: cheaply first, row by row only where it fails.

All expectations of a pass go into one call: the engine makes a digest of the whole frame in every call, and
shares what several expectations need, so one by one costs seven times as much. The frame holds only the
columns that the expectations mention. Bad rows are asked for by the frame's own index, which is the position
of the row; that answer is whole, where other forms of it are cut.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult, columns_of

CHEAP: dict[str, Any] = {"result_format": "BOOLEAN_ONLY"}
EVERY_ROW: dict[str, Any] = {"result_format": "COMPLETE"}
NUMBER = "airflow_mlops_number"


class GxValidator:
    """Great Expectations in an ephemeral context. See :class:`Validator`."""

    def check(self, rows: pa.Table, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
        """Return one result for each expectation, in order."""
        if not expectations:
            return []
        asked = columns_of(expectations)
        kept = rows if asked is None else rows.select([name for name in rows.column_names if name in asked])
        batch = frame_batch(kept)
        return examined(batch, expectations, closer=EVERY_ROW)


@dataclass(frozen=True)
class Fault:
    """An expectation that the engine could not evaluate: that says nothing about the data."""

    expectation: Expectation
    message: str


def library() -> Any:
    """Return Great Expectations, imported so that it reports home only where somebody asked for that."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # It logs a line for each of its functions once another package has set up logging.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx

    return gx


def quiet_context() -> Any:
    """Return a context that lives in memory, draws no bars and logs warnings only."""
    context = library().get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def frame_batch(rows: pa.Table) -> Any:
    """Return the rows as a batch. Its index counts the rows from 0, also where no column is left."""
    import pandas as pd

    frame = rows.to_pandas(split_blocks=True) if rows.num_columns else pd.DataFrame(index=range(rows.num_rows))
    frame.index = pd.RangeIndex(len(frame))
    source = quiet_context().data_sources.add_pandas("pandas")
    definition = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    return definition.get_batch({"dataframe": frame})


def examined(
    batch: Any, expectations: Sequence[Expectation], *, closer: dict[str, Any], rows: bool = True
) -> list[ExpectationResult]:
    """Return one result for each expectation: all by their truth alone, the failed ones once more in full.

    Parameters
    ----------
    closer : dict
        Result format in which a failed expectation is asked again.
    rows : bool
        Whether the answer names rows by their position.

    Raises
    ------
    PartitionRefusedError
        If the engine could not evaluate an expectation; names each of them.
    """
    cheap = _validated(batch, expectations, CHEAP)
    failed = [number for number, outcome in enumerate(cheap) if not outcome.success]
    if failed:
        again = _validated(batch, [expectations[number] for number in failed], closer)
        cheap = [*cheap]
        for number, outcome in zip(failed, again, strict=True):
            cheap[number] = outcome
    return [result_of(*pair, rows=rows) for pair in zip(expectations, cheap, strict=True)]


def _validated(batch: Any, expectations: Sequence[Expectation], form: dict[str, Any]) -> list[Any]:
    """Return the engine's outcome of each expectation, in order, all evaluated in one call."""
    built = [implemented(one, number) for number, one in enumerate(expectations)]
    refuse_on([one for one in built if isinstance(one, Fault)])
    try:
        whole = batch.validate(library().ExpectationSuite(name="declared", expectations=built), result_format=form)
    except Exception as error:  # the library raises many kinds; all of them mean "not evaluated"
        names = ", ".join(sorted({one.type for one in expectations}))
        raise PartitionRefusedError(f"{names} could not be evaluated: {error}") from error
    # The engine answers in an order of its own; the number that each expectation carries says which it is.
    outcomes = {outcome.expectation_config.meta[NUMBER]: outcome for outcome in whole.results}
    found = [outcomes[number] for number in range(len(expectations))]
    said = [exception_in(outcome.exception_info) for outcome in found]
    refuse_on([Fault(one, words) for one, words in zip(expectations, said, strict=True) if words])
    return found


def implemented(expectation: Expectation, number: int) -> Any:
    """Return Great Expectations' own object of an expectation, or the :class:`Fault` that it cannot be made."""
    from great_expectations.expectations.registry import get_expectation_impl

    try:
        return get_expectation_impl(expectation.type)(**expectation.kwargs, meta={NUMBER: number})
    except Exception as error:  # pydantic's errors, the registry's own, and whatever a custom one raises
        return Fault(expectation, str(error))


def refuse_on(faults: Sequence[Fault]) -> None:
    """Raise one error that names what could not be evaluated, if anything could not."""
    if faults:
        told = "; ".join(
            f"{fault.expectation.type} could not be evaluated{_on(fault.expectation)}: {fault.message[:300]}"
            for fault in faults[:5]
        )
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise PartitionRefusedError(told + more)


def _on(expectation: Expectation) -> str:
    return f" on {expectation.column}" if expectation.column else ""


def exception_in(info: Any) -> str:
    """Return the message of an engine fault, which Great Expectations reports like failed data."""
    if not isinstance(info, dict):
        return ""
    if info.get("raised_exception"):
        return str(info.get("exception_message"))
    nested = [exception_in(value) for value in info.values() if isinstance(value, dict)]
    return next((message for message in nested if message), "")


def result_of(expectation: Expectation, outcome: Any, *, rows: bool) -> ExpectationResult:
    """Return what the engine's outcome says of an expectation, with the positions of bad rows where they are asked."""
    from great_expectations.expectations.expectation import ColumnMapExpectation, MulticolumnMapExpectation
    from great_expectations.expectations.expectation import ColumnPairMapExpectation as PairMapExpectation
    from great_expectations.expectations.registry import get_expectation_impl

    found = outcome.result or {}
    maps = ColumnMapExpectation | PairMapExpectation | MulticolumnMapExpectation
    by_row = rows and issubclass(get_expectation_impl(expectation.type), maps)
    listed = found.get("unexpected_index_list") or [] if by_row and not outcome.success else []
    return ExpectationResult(
        type=expectation.type,
        column=expectation.column,
        severity=expectation.severity,
        success=bool(outcome.success),
        unexpected=int(found.get("unexpected_count") or 0),
        by_row=bool(listed),
        rows=tuple(map(int, listed)),
        observed=str(found.get("observed_value", ""))[:200],
        declared=expectation.limits,
    )
