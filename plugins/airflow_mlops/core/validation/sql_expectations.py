"""Ask a database whether its rows meet expectations, with the meaning that Great Expectations gives them on rows.

All expectations are one statement. An expectation that the database would judge otherwise, about such a column
or so close to its limit, has no answer, and is left to the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement

from airflow_mlops.core.data.rows_in_database import RowsInDatabase, sql_type
from airflow_mlops.core.declaration.arrow_types import is_time
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.sources.sql_partition import ROWS
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult
from airflow_mlops.core.validation.typed_limits import typed_limits

EXACT = 2**53
"""Integers from here on are no exact floats."""
_UNIT = 2.0**-53
_BOUNDS = frozenset({"min_value", "max_value", "strict_min", "strict_max"})
_LENGTHS = frozenset({"min_value", "max_value", "mostly"})
_OF_NULLS = ("expect_column_values_to_not_be_null", "expect_column_values_to_be_null")
BY_ROW: dict[str, frozenset[str]] = {
    "expect_column_values_to_not_be_null": frozenset({"mostly"}),
    "expect_column_values_to_be_null": frozenset({"mostly"}),
    "expect_column_values_to_be_between": _BOUNDS | {"mostly"},
    "expect_column_values_to_be_in_set": frozenset({"value_set", "mostly"}),
    "expect_column_values_to_not_be_in_set": frozenset({"value_set", "mostly"}),
    "expect_column_values_to_be_unique": frozenset({"mostly"}),
    "expect_column_value_lengths_to_be_between": _LENGTHS | _BOUNDS,
    "expect_column_value_lengths_to_equal": frozenset({"value", "mostly"}),
}
"""The expectations about single rows that a database judges, with their arguments."""
OF_ALL: dict[str, frozenset[str]] = {
    "expect_column_min_to_be_between": _BOUNDS,
    "expect_column_max_to_be_between": _BOUNDS,
    "expect_column_mean_to_be_between": _BOUNDS,
    "expect_column_sum_to_be_between": _BOUNDS,
    "expect_column_unique_value_count_to_be_between": _BOUNDS,
    "expect_table_row_count_to_be_between": _BOUNDS,
    "expect_table_row_count_to_equal": frozenset({"value"}),
}
"""The expectations about all rows that a database judges, with their arguments."""


@dataclass(frozen=True)
class Answers:
    """The answers of a database to a suite.

    ``results`` are by the position of the expectation, without those that are left to the rows. ``bad`` are the rows
    that break a critical expectation about single rows, each counted once.
    """

    results: Mapping[int, ExpectationResult]
    bad: int


@dataclass(frozen=True)
class _Figure:
    """A figure of all rows: a value of each row, and the aggregate of the values."""

    value: ColumnElement[Any]
    of_all: Callable[[ColumnElement[Any]], ColumnElement[Any]]


@dataclass(frozen=True)
class _Query:
    """The query of one expectation, whose limits have the type of their column.

    Either which rows are ``bad`` of those that are ``considered``, or the ``figures`` of all rows. ``judge`` takes the
    number of rows and the figures, and returns whether the expectation is met and what was observed, or None.
    """

    expectation: Expectation
    bad: ColumnElement[bool] | None = None
    considered: ColumnElement[bool] = field(default_factory=sa.true)
    figures: tuple[_Figure, ...] = ()
    judge: Callable[[Sequence[Any]], tuple[bool, str] | None] = lambda _: None


def require_supported(expectations: Sequence[tuple[Expectation, int]], *, file: str) -> None:
    """Raise DeclarationError if a database cannot judge one of some expectations, given with their lines."""
    known = BY_ROW | OF_ALL
    for number, (expectation, line) in enumerate(expectations):
        where = f"expectations[{number}]"
        if expectation.type not in known:
            raise DeclarationError(
                f"{expectation.type} is judged by a database otherwise than on the rows; engine: sql takes "
                f"{', '.join(sorted(known))}; take it out, or declare engine: local",
                file=file,
                line=line,
                key=f"{where}.type",
            )
        surplus = sorted(expectation.kwargs.keys() - known[expectation.type] - {"column", "notes"})
        if surplus:
            raise DeclarationError(
                f"{expectation.type}: no database judges with {surplus[0]}; engine: sql takes column, "
                f"{', '.join(sorted(known[expectation.type]))}; take it out, or declare engine: local",
                file=file,
                line=line,
                key=f"{where}.kwargs",
            )


def evaluate_suite(rows: RowsInDatabase, expectations: Sequence[Expectation], good: int) -> Answers:
    """Return the answers of the database about the good rows of a partition, whose number is ``good``.

    Raises
    ------
    NotAnsweredError
        If the database does not answer.
    SourceUnreachableError
        If it is away.
    """
    pairs = [(number, _question(rows, expectation)) for number, expectation in enumerate(expectations)]
    queries = {number: query for number, query in pairs if query is not None}
    if not queries:
        return Answers({}, 0)
    answers = _run_queries(rows, queries)
    results: dict[int, ExpectationResult] = {}
    for number, query in queries.items():
        expectation, figures = query.expectation, answers[number]
        if query.bad is not None:
            unexpected, considered = int(figures[0] or 0), int(figures[1] or 0)
            share = 1.0 if considered == 0 else (float(considered) - float(unexpected)) / float(considered)
            success = unexpected == 0 or share >= float(expectation.kwargs.get("mostly", 1.0))
            results[number] = _result(expectation, success, unexpected=unexpected)
            continue
        judged = query.judge([good, *figures])
        if judged is not None:
            results[number] = _result(expectation, judged[0], observed=judged[1])
    failed = [number for number, result in results.items() if result.by_row and result.severity == "critical"]
    return Answers(results, _count_bad(rows, [queries[number] for number in failed]))


def _run_queries(rows: RowsInDatabase, queries: Mapping[int, _Query]) -> dict[int, tuple[Any, ...]]:
    """Return the figures of each query, all in one statement."""
    columns: list[ColumnElement[Any]] = []
    aggregates: list[Callable[[ColumnElement[Any]], ColumnElement[Any]]] = []
    counts: dict[int, int] = {}
    for number, query in queries.items():
        figures = query.figures
        if query.bad is not None:
            figures = tuple(_Figure(_as_one(flag), sa.func.sum) for flag in (query.bad, query.considered))
        columns += [figure.value for figure in figures]
        aggregates += [figure.of_all for figure in figures]
        counts[number] = len(figures)
    labelled = [column.label(f"v{place}") for place, column in enumerate(columns)]
    one: ColumnElement[Any] = sa.literal_column("1").label("one")
    inner = sa.select(one, *labelled).select_from(ROWS).where(*rows.good).subquery()
    outer = [of_all(inner.c[f"v{place}"]) for place, of_all in enumerate(aggregates)]
    [answer] = rows.database.execute(sa.select(sa.func.count(inner.c.one), *outer))
    answers, start = {}, 1
    for number, count in counts.items():
        answers[number] = answer[start : start + count]
        start += count
    return answers


def _count_bad(rows: RowsInDatabase, queries: Sequence[_Query]) -> int:
    """Return the number of rows that are bad by any query."""
    conditions = [query.bad for query in queries if query.bad is not None]
    flags = [_as_one(bad).label(f"v{place}") for place, bad in enumerate(conditions)]
    if not flags:
        return 0
    inner = sa.select(*flags).select_from(ROWS).where(*rows.good).subquery()
    is_bad = sa.or_(*(inner.c[flag.name] > 0 for flag in flags))
    return int(rows.database.execute(sa.select(sa.func.count()).select_from(inner).where(is_bad))[0][0])


def _as_one(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return 1 where a condition holds, else 0; unknown is 0."""
    return sa.case((condition, 1), else_=0)


def _result(expectation: Expectation, success: bool, *, unexpected: int = 0, observed: str = "") -> ExpectationResult:
    return ExpectationResult(
        type=expectation.type,
        column=expectation.column,
        severity=expectation.severity,
        success=success,
        unexpected=0 if success else unexpected,
        by_row=not success and expectation.type in BY_ROW,
        observed="" if success else observed,
        declared=expectation.limits,
    )


def _question(rows: RowsInDatabase, expectation: Expectation) -> _Query | None:
    """Return the query of an expectation; None if it is left to the rows."""
    if expectation.type.startswith("expect_table_row_count"):
        return _Query(expectation, judge=lambda figures: _judge_exactly(expectation, figures[0]))
    name = str(expectation.kwargs.get("column"))
    if expectation.type in _OF_NULLS and rows.has(name):  # a mask leaves a null as it is
        value = rows.value(name)
        return _Query(expectation, bad=value.is_(None) if "not_be_null" in expectation.type else value.is_not(None))
    kind = rows.kind(name)
    if kind is None:
        return None
    try:
        typed = typed_limits(expectation, kind)
    except DeclarationError:  # refused where the rows are judged
        return None
    value = rows.value(name)
    if expectation.type in BY_ROW:
        bad = _bad_rows(rows, typed, kind, value)
        return None if bad is None else _Query(typed, bad=bad, considered=value.is_not(None))
    return _figures_of_all(typed, kind, value)


def _bad_rows(
    rows: RowsInDatabase, expectation: Expectation, kind: pa.DataType, value: ColumnElement[Any]
) -> ColumnElement[bool] | None:
    """Return the condition of a row that breaks an expectation, false for a null; None if it is left to the rows."""
    name, args = expectation.type, expectation.kwargs
    if name == "expect_column_values_to_be_unique":
        return sa.and_(value.is_not(None), sa.func.count(value).over(partition_by=value) > 1)
    if name.startswith("expect_column_value_lengths"):
        return _wrong_length(args, value) if pa.types.is_string(kind) else None
    if is_time(kind) and rows.database.has_times_as_text:
        return None
    if name == "expect_column_values_to_be_between":
        return _outside(value, args, kind)
    members = _members(args.get("value_set"), kind)
    if not members:
        return None
    is_member = value.in_([_literal(member, kind) for member in members])
    return sa.and_(value.is_not(None), is_member if "not_be_in" in name else sa.not_(is_member))


def _wrong_length(args: Mapping[str, Any], value: ColumnElement[Any]) -> ColumnElement[bool] | None:
    """Return the condition of a text of another length; None if it is left to the rows."""
    length = sa.func.length(value, type_=sa.BigInteger())
    if "value" not in args:
        return _outside(length, args, pa.int64())
    is_whole = isinstance(args["value"], int) and not isinstance(args["value"], bool)
    return length != sa.literal(args["value"], sa.BigInteger()) if is_whole else None


def _outside(value: ColumnElement[Any], args: Mapping[str, Any], kind: pa.DataType) -> ColumnElement[bool] | None:
    """Return the condition of a value beyond the limits; None if a limit cannot be compared as on rows."""
    low, high = args.get("min_value"), args.get("max_value")
    if not all(limit is None or _is_comparable(limit, kind) for limit in (low, high)):
        return None
    conditions = []
    if low is not None:
        limit = _literal(low, kind)
        conditions.append(value <= limit if args.get("strict_min") else value < limit)
    if high is not None:
        limit = _literal(high, kind)
        conditions.append(value >= limit if args.get("strict_max") else value > limit)
    return sa.and_(value.is_not(None), sa.or_(sa.false(), *conditions))


def _figures_of_all(expectation: Expectation, kind: pa.DataType, value: ColumnElement[Any]) -> _Query | None:
    """Return the query about all values of a column; None if it is left to the rows."""
    name = expectation.type
    if "unique_value_count" in name:
        figure = _Figure(value, lambda column: sa.func.count(sa.distinct(column)))
        return _Query(expectation, figures=(figure,), judge=lambda figures: _judge_exactly(expectation, figures[1]))
    if kind not in (pa.int64(), pa.float64()):
        return None
    if "_min_" in name or "_max_" in name:
        figure = _Figure(value, sa.func.min if "_min_" in name else sa.func.max)
        return _Query(expectation, figures=(figure,), judge=lambda figures: _judge_exactly(expectation, figures[1]))
    as_float: ColumnElement[float] = sa.cast(value, sa.Double())
    aggregates = (sa.func.count, sa.func.sum, lambda column: sa.func.sum(sa.func.abs(column)))
    figures = tuple(_Figure(as_float, of_all) for of_all in aggregates)
    return _Query(expectation, figures=figures, judge=lambda figures: _judge_rounded(expectation, figures, kind))


def _judge_exactly(expectation: Expectation, observed: Any) -> tuple[bool, str] | None:
    """Judge a figure that does not depend on the order of rows; None without one."""
    args = expectation.kwargs
    if observed is None:
        return None
    if "value" in args:
        return bool(observed == args["value"]), str(observed)
    low, high = args.get("min_value"), args.get("max_value")
    above = low is None or (observed > low if args.get("strict_min") else observed >= low)
    below = high is None or (observed < high if args.get("strict_max") else observed <= high)
    return bool(above and below), str(observed)


def _judge_rounded(expectation: Expectation, figures: Sequence[Any], kind: pa.DataType) -> tuple[bool, str] | None:
    """Judge a sum or a mean; None if the order of additions might decide it.

    A sum of n floats is off by at most (n - 1) u times the sum of their sizes, whatever the order, with u = 2^-53.
    """
    _, count, total, size = figures
    if not count:
        return None
    is_mean = "_mean_" in expectation.type
    observed, doubt = float(total), 2 * int(count) * _UNIT * float(size)
    if is_mean:
        observed, doubt = observed / count, doubt / count
    limits = [expectation.kwargs.get(name) for name in ("min_value", "max_value")]
    if any(limit is not None and abs(observed - float(limit)) <= doubt for limit in limits):
        return None
    whole = not is_mean and pa.types.is_integer(kind)
    judged = _judge_exactly(expectation, observed)
    return None if judged is None else (judged[0], str(int(observed)) if whole else judged[1])


def _literal(limit: Any, kind: pa.DataType) -> ColumnElement[Any]:
    """Return a limit of a column of a type, bound as a value."""
    if pa.types.is_timestamp(kind):
        return sa.literal(limit.to_pydatetime(), sql_type(kind))
    if isinstance(limit, int) and not isinstance(limit, bool):
        return sa.literal(limit, sa.BigInteger())
    return sa.literal(limit, sa.Double() if isinstance(limit, float) else sql_type(kind))


def _members(declared: Any, kind: pa.DataType) -> list[Any] | None:
    """Return the members of a set; None if they are not all of the type of the column."""
    if not isinstance(declared, list):
        return None
    if pa.types.is_string(kind):
        return declared if all(isinstance(member, str) for member in declared) else None
    return declared if all(_is_comparable(member, kind) for member in declared) else None


def _is_comparable(limit: Any, kind: pa.DataType) -> bool:
    """Return whether the database compares a limit with values of a type as it is done on rows."""
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or isinstance(limit, bool):
        return False
    if isinstance(limit, int | float) and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return abs(limit) < EXACT
    return not isinstance(limit, int | float)
