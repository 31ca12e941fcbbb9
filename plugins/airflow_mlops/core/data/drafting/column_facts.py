"""What values say about their column, taken in batch by batch in bounded memory.

Columns of Parquet files have types. Columns of CSV files are text, and one is taken for numbers, dates,
times or booleans only if every value plainly is one; a number with a leading zero is a name, not a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.profiles.partition_profile import within_range
from airflow_mlops.core.data.read_text import parse_column
from airflow_mlops.core.data.row_hash import hash_cells
from airflow_mlops.core.declaration.arrow_types import canonical_type

READABLE: tuple[pa.DataType, ...] = (
    pa.bool_(),
    pa.int64(),
    pa.float64(),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
)
"""What text is tried as, the narrowest first."""
NO_NUMBER = re.compile(r"^[+-]?0\d|^\+|^[+-]?\d{16,}$")
"""Texts of digits that are names: with leading zeros, or with more digits than a float holds."""
NO_INTEGER = re.compile(r"^[+-]?0\d|^\+")
MEANS_NULL = frozenset({"NA", "N/A", "NaN", "nan", "NULL", "null", "None", "-"})
DISTINCT = 20
"""Different values of a column of text up to which they are kept by name."""
EXAMPLES = 1_000


@dataclass
class ColumnFacts:
    """What the files say about one column.

    Parameters
    ----------
    name : str
        Its name.
    rows, nulls : int
        Rows in the files that have the column, and those of them without a value.
    odd : bool
        Whether it holds NaN or an infinity.
    low, high : float or None
        Of the finite numbers.
    texts : set of str or None
        The different texts; None where there are too many.
    examples : list of str
        The first texts.
    unsupported : str or None
        The type of a column that cannot be kept.
    typed : pyarrow.DataType or None
        The type that the files themselves state.
    """

    name: str
    rows: int = 0
    nulls: int = 0
    odd: bool = False
    low: float | None = None
    high: float | None = None
    texts: set[str] | None = field(default_factory=set)
    examples: list[str] = field(default_factory=list)
    unsupported: str | None = None
    typed: pa.DataType | None = None
    _read_as_null: set[str] = field(default_factory=set)
    _tried: int = 0
    _readable: list[pa.DataType] = field(default_factory=lambda: list(READABLE))
    _keys: KeySpool | None = field(default_factory=KeySpool)

    @property
    def read_as(self) -> pa.DataType:
        """The type of the values; of text that may stand for null too, the type of the others."""
        if self.typed is not None:
            return self.typed
        return self._readable[0] if self._readable and self._tried else pa.string()

    @property
    def kind(self) -> pa.DataType:
        """The type as which the column can be declared as it stands."""
        return pa.string() if self.means_null else self.read_as

    @property
    def means_null(self) -> list[str]:
        """Texts that keep the column from being numbers or times, and may stand for null."""
        return [] if self.read_as == pa.string() else sorted(self._read_as_null)

    @property
    def unique(self) -> bool:
        """Whether it tells rows apart: text or integers, never null and never twice."""
        return self._keys is not None and self.rows > 0 and not len(self._keys.duplicates())

    def add(self, column: pa.Array, *, typed: bool) -> None:
        """Take in the values of a batch."""
        self.rows += len(column)
        if self.unsupported:
            return
        if typed and self.typed is None and not pa.types.is_null(column.type):
            self.typed = canonical_type(column.type)
            if self.typed is None:
                self.unsupported = str(column.type)
                self._forget_keys()
                return
        if not typed:
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        self.nulls += column.null_count
        present = column.drop_null()
        if column.null_count or not (pa.types.is_integer(column.type) or is_text(column.type)):
            self._forget_keys()
        if len(present):
            self._add_key(present)
            self._add_numbers(present)
            if is_text(present.type):
                self._add_texts(present.cast(pa.string()))
                if not typed:
                    self._read(present)

    def close(self) -> None:
        """Remove what was spooled; ``unique`` cannot be asked after that."""
        self._forget_keys()

    def _add_key(self, present: pa.Array) -> None:
        if self._keys is None:
            return
        hashes = hash_cells(self.name, present)[1]
        if len(np.unique(hashes)) < len(hashes):
            self._forget_keys()
        else:
            self._keys.add(hashes)

    def _forget_keys(self) -> None:
        if self._keys is not None:
            self._keys.close()
            self._keys = None

    def _add_numbers(self, present: pa.Array) -> None:
        if not (pa.types.is_integer(present.type) or pa.types.is_floating(present.type)):
            return
        values = np.asarray(present.to_numpy(zero_copy_only=False), np.float64)
        finite = values[np.isfinite(values)]
        self.odd = self.odd or len(finite) < len(values)
        if len(finite):
            self.low = within_range(min(finite.min(), np.inf if self.low is None else self.low))
            self.high = within_range(max(finite.max(), -np.inf if self.high is None else self.high))

    def _add_texts(self, present: pa.Array) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples += present.slice(0, EXAMPLES - len(self.examples)).to_pylist()
        if self.texts is not None:
            self.texts |= set(present.unique().slice(0, DISTINCT + 1).to_pylist())
            if len(self.texts) > DISTINCT:
                self.texts = None

    def _read(self, present: pa.Array) -> None:
        """Keep of the types that the column may have those as which all of these texts can be read."""
        odd = pc.is_in(present, value_set=pa.array(sorted(MEANS_NULL)))
        self._read_as_null |= set(present.filter(odd).unique().to_pylist())
        present = present.filter(pc.invert(odd))
        self._tried += len(present)
        for kind in list(self._readable):
            number = {pa.int64(): NO_INTEGER, pa.float64(): NO_NUMBER}.get(kind)
            values, unread = parse_column(present, kind)
            if unread.any() or (number and pc.any(pc.match_substring_regex(present, number.pattern)).as_py()):
                self._readable.remove(kind)
            elif number and kind == self._readable[0]:
                self._add_numbers(values)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of the ways to hold text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
