"""The rows of a partition in their database, as the contract has them: which of them are good, and their counts.

Whatever the database would read otherwise than the pass over the rows raises NotAnsweredError: the rows are fetched
then, and judged as by the local engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement

from airflow_mlops.core.data.profiles.partition_profile import LARGEST, PartitionProfile
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins
from airflow_mlops.core.data.profiles.sql_profile import count_column, numeric_value, quote_name
from airflow_mlops.core.data.shape import Rule, Shape
from airflow_mlops.core.declaration.arrow_types import is_time
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.sources.sql_partition import ROWS, NotAnsweredError, SqlPartition

_STORAGE = {pa.int64(): "integer", pa.float64(): "real", pa.string(): "text"}
"""How SQLite, whose columns hold values of any type, stores the values of a type."""


@dataclass(frozen=True)
class RowCounts:
    """The rows of a partition in its database.

    ``arrived`` are all rows, ``good`` those that the contract accepts, and ``surplus`` the good rows that repeat an
    earlier one in all but the key.
    """

    arrived: int
    good: int
    surplus: int


@dataclass(frozen=True)
class RowsInDatabase:
    """The rows of a partition in their database.

    Parameters
    ----------
    database : SqlPartition
        Answers queries.
    partition : str
        Key of the partition.
    arriving : pyarrow.Schema
        The columns as the database has them.
    shape : Shape
        The columns as they are stored, and the rules of the contract.
    state : LoopState
        The state of the loop before.
    """

    database: SqlPartition
    partition: str
    arriving: pa.Schema
    shape: Shape
    state: LoopState

    def count(self, data: Data) -> RowCounts:
        """Return the counts of the rows.

        Raises
        ------
        NotAnsweredError
            If the database would read a value, or pick the good rows, otherwise than the pass over the rows.
        """
        self._require_the_same_reading(data)
        rules = [rule for rule in self.shape.rules if rule.source is not None]
        good = sa.case((sa.and_(*self.good), 1), else_=0)
        odd = sa.case((sa.or_(sa.false(), *(self._odd(rule) for rule in rules)), 1), else_=0)
        counts: sa.Select[Any, Any, Any] = sa.select(sa.func.count(), sa.func.sum(good), sa.func.sum(odd)).select_from(
            ROWS
        )
        [(arrived, accepted, unread)] = self.database.execute(counts)
        if unread:
            raise NotAnsweredError(f"{unread:,} rows hold values that only a reading of the text can judge")
        if not accepted:
            raise NotAnsweredError("there is no good row")
        if arrived > data.limits.rows or arrived * len(self.shape.rules) > data.limits.cells:
            raise NotAnsweredError("there are more rows than data.limits allow")
        if self._distinct([rule for rule in rules if rule.name in data.key_columns]) < accepted:
            raise NotAnsweredError("keys repeat")
        others = [rule for rule in rules if rule.name != data.key]
        return RowCounts(int(arrived), int(accepted), int(accepted) - self._distinct(others))

    @property
    def good(self) -> list[ColumnElement[bool]]:
        """The conditions of a row that the contract accepts."""
        return [condition for rule in self.shape.rules if rule.source is not None for condition in self._accepts(rule)]

    def kind(self, name: str) -> pa.DataType | None:
        """Return the type in which a column is stored; None if there is none, or it is masked, or of a key's parts."""
        rule = next((rule for rule in self.shape.rules if rule.name == name), None)
        return None if rule is None or rule.mask or rule.source is None else rule.kind

    def has(self, name: str) -> bool:
        """Return whether a stored column is one of the database's, masked or not."""
        return any(rule.name == name and rule.source is not None for rule in self.shape.rules)

    def value(self, name: str) -> ColumnElement[Any]:
        """Return the value of a stored column."""
        return self._value(next(rule for rule in self.shape.rules if rule.name == name))

    def profile(self, bins: ProfileBins, counts: RowCounts) -> PartitionProfile:
        """Return the profile of the good rows on given bins; sums are rounded as the database adds.

        Parameters
        ----------
        bins : ProfileBins
            The bins of stored columns.
        counts : RowCounts
            The counts of the rows.
        """
        columns = {}
        for name, column_bins in bins.columns.items():
            rule = next(rule for rule in self.shape.rules if rule.name == name)
            values = numeric_value(
                self._arriving_name(rule), bins.kinds[name], sql_type(rule.kind), self.database.dialect.name
            )
            query = sa.select(values).select_from(ROWS).where(*self.good)
            columns[name] = count_column(self.database, query, bins.kinds[name], column_bins)
        return PartitionProfile(counts.good, columns, counts.surplus)

    def _require_the_same_reading(self, data: Data) -> None:
        if self.state.forgotten:
            raise NotAnsweredError("rows of erased subjects are dropped by the hash of their names")
        if not self.database.is_table and "quarantine" in (self.shape.late, self.shape.early):
            raise NotAnsweredError("rows of a query outside of the partition go to quarantine")
        for rule in self.shape.rules:
            if rule.source is None:
                continue
            if rule.clock is not None or rule.format is not None:
                raise NotAnsweredError(f"times of {rule.name!r} are read on a clock, or in a form of their own")
            if not rule.text and self.arriving.field(rule.source).type != rule.kind:
                raise NotAnsweredError(f"{rule.name!r} arrives in another type than it is kept in")
        if data.key not in [rule.name for rule in self.shape.rules]:
            raise NotAnsweredError("there is no key")

    def _accepts(self, rule: Rule) -> list[ColumnElement[bool]]:
        value = self._value(rule)
        conditions: list[ColumnElement[bool]] = [] if rule.nullable else [value.is_not(None)]
        if rule.finite and pa.types.is_floating(rule.kind):
            # A NaN of PostgreSQL is larger than every number.
            conditions.append(sa.or_(value.is_(None), sa.func.abs(value) <= sa.literal(LARGEST, sa.Double())))
        if rule.levels is not None:
            conditions.append(sa.or_(value.is_(None), value.in_(rule.levels)))
        return conditions

    def _odd(self, rule: Rule) -> ColumnElement[bool]:
        """Return the condition of a row of SQLite whose value is of another type than its column, or no plain time."""
        if not self.database.has_times_as_text:
            return sa.false()
        column: ColumnElement[Any] = sa.column(quote_name(self._arriving_name(rule)))
        if not rule.text:
            storage = _STORAGE.get(rule.kind)
            return sa.and_(column.is_not(None), sa.func.typeof(column) != storage) if storage else sa.true()
        if pa.types.is_date(rule.kind):
            plain = sa.func.strftime("%Y-%m-%d", column) == column
        else:
            ends = ("Z", "+00:00") if rule.kind.tz else ("",)
            spaced = sa.func.replace(column, "T", " ")
            plain = sa.and_(
                sa.func.strftime("%Y-%m-%d %H:%M:%S", sa.func.substr(column, 1, 19)) == sa.func.substr(spaced, 1, 19),
                sa.func.substr(column, 20).in_(ends),
            )
        return sa.and_(column.is_not(None), sa.func.coalesce(sa.not_(plain), sa.true()))

    def _value(self, rule: Rule) -> ColumnElement[Any]:
        column: ColumnElement[Any] = sa.column(quote_name(self._arriving_name(rule)), sql_type(rule.kind))
        if pa.types.is_string(rule.kind):
            # As the text that drivers deliver of a uuid, and compared by its characters, whatever the column says.
            collation = "BINARY" if self.database.has_times_as_text else "C"
            return sa.cast(column, sa.Text()).collate(collation)
        if not self.database.has_times_as_text:
            return column
        if is_time(rule.kind):
            form = "%Y-%m-%d" if pa.types.is_date(rule.kind) else "%Y-%m-%d %H:%M:%S"
            return sa.func.strftime(form, column, type_=sa.Text())
        return column

    def _arriving_name(self, rule: Rule) -> str:
        assert rule.source is not None, "an optional column that is missing is not asked for"
        return str(self.arriving.names[rule.source])

    def _distinct(self, rules: Sequence[Rule]) -> int:
        """Return the number of good rows that differ in some columns."""
        values = [self._value(rule).label(f"v{number}") for number, rule in enumerate(rules)]
        inner = sa.select(*values).select_from(ROWS).where(*self.good).distinct().subquery()
        return int(self.database.execute(sa.select(sa.func.count()).select_from(inner))[0][0])


def sql_type(kind: pa.DataType) -> sa.types.TypeEngine[Any]:
    """Return the database's type of the values of a stored column."""
    if pa.types.is_decimal(kind):
        return sa.Numeric(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=kind.tz is not None)
    plain: dict[pa.DataType, sa.types.TypeEngine[Any]] = {
        pa.int64(): sa.BigInteger(),
        pa.float64(): sa.Double(),
        pa.bool_(): sa.Boolean(),
        pa.date32(): sa.Date(),
    }
    return plain.get(kind, sa.Text())
