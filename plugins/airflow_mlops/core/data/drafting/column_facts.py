"""Facts about a column, learned from its values batch by batch in bounded memory.

Columns of Parquet files have types. Columns of CSV files are text, and such a column is taken for numbers, dates, times
or booleans only if every value plainly is one; digits with a leading zero are a name, not a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.profiles.partition_profile import clip_to_finite
from airflow_mlops.core.data.read_text import parse_column
from airflow_mlops.core.data.row_hash import hash_cells
from airflow_mlops.core.declaration.arrow_types import canonical_type, is_number, is_text

CANDIDATE_TYPES: tuple[pa.DataType, ...] = (
    pa.bool_(),
    pa.int64(),
    pa.float64(),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
)
"""The types that text is parsed as, the narrowest first."""
NO_NUMBER = re.compile(r"^[+-]?0\d|^\+|^[+-]?\d{16,}$")
"""Texts of digits that are names: with leading zeros, or with more digits than a float holds."""
NO_INTEGER = re.compile(r"^[+-]?0\d|^\+")
NULL_TEXTS = frozenset({"NA", "N/A", "NaN", "nan", "NULL", "null", "None", "-"})
MAX_TEXTS = 20
"""Largest number of different texts of a column that are stored."""
MAX_EXAMPLES = 1_000


@dataclass
class ColumnFacts:
    """The facts about one column of some files.

    Parameters
    ----------
    name : str
        Name of the column.
    rows, nulls : int
        Number of rows in the files that have the column, and of those without a value.
    odd : bool
        Whether it holds NaN or an infinity.
    low, high : float or None
        Smallest and largest finite number.
    texts : set of str or None
        The different texts; None if there are more than ``MAX_TEXTS``.
    examples : list of str
        The first texts, at most ``MAX_EXAMPLES``.
    unsupported : str or None
        The type of a column that cannot be stored.
    typed : pyarrow.DataType or None
        The type that the files state.
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
    _null_texts: set[str] = field(default_factory=set)
    _parsed: int = 0
    _candidate_types: list[pa.DataType] = field(default_factory=lambda: list(CANDIDATE_TYPES))
    _keys: KeySpool | None = field(default_factory=KeySpool)

    @property
    def value_type(self) -> pa.DataType:
        """The type of the values, leaving out texts that may mean null."""
        if self.typed is not None:
            return self.typed
        return self._candidate_types[0] if self._candidate_types and self._parsed else pa.string()

    @property
    def kind(self) -> pa.DataType:
        """The type with which the column can be declared unchanged: text if some texts may mean null."""
        return pa.string() if self.null_texts else self.value_type

    @property
    def null_texts(self) -> list[str]:
        """The texts that may mean null, and alone keep the column from being numbers or times."""
        return [] if self.value_type == pa.string() else sorted(self._null_texts)

    @property
    def unique(self) -> bool:
        """Whether it can be a key: text or integers, never null, without duplicates."""
        return self._keys is not None and self.rows > 0 and not len(self._keys.duplicates())

    def add(self, column: pa.Array, *, typed: bool) -> None:
        """Add the values of a batch; ``typed`` says that the file states their type."""
        self.rows += len(column)
        if typed:
            self._set_type(column.type)
        if self.unsupported:
            return
        if not typed:
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        self.nulls += column.null_count
        present = column.drop_null()
        if column.null_count or not (pa.types.is_integer(column.type) or is_text(column.type)):
            self._drop_keys()
        if not len(present):
            return
        self._add_key(present)
        self._add_numbers(present)
        if is_text(present.type):
            self._add_texts(present.cast(pa.string()))
            if not typed:
                self._narrow_types(present)

    def close(self) -> None:
        """Remove the spooled keys; ``unique`` is false afterwards."""
        self._drop_keys()

    def _set_type(self, arrow_type: pa.DataType) -> None:
        """Set the type of the column from the first batch whose type is not null."""
        if self.typed is not None or self.unsupported or pa.types.is_null(arrow_type):
            return
        self.typed = canonical_type(arrow_type)
        if self.typed is None:
            self.unsupported = str(arrow_type)
            self._drop_keys()

    def _add_key(self, present: pa.Array) -> None:
        if self._keys is None:
            return
        hashes = hash_cells(self.name, present)[1]
        if len(np.unique(hashes)) < len(hashes):
            self._drop_keys()
        else:
            self._keys.add(hashes)

    def _drop_keys(self) -> None:
        if self._keys is not None:
            self._keys.close()
            self._keys = None

    def _add_numbers(self, present: pa.Array) -> None:
        if not is_number(present.type):
            return
        values = np.asarray(present.to_numpy(zero_copy_only=False), np.float64)
        finite = values[np.isfinite(values)]
        self.odd = self.odd or len(finite) < len(values)
        if len(finite):
            self.low = clip_to_finite(min(finite.min(), np.inf if self.low is None else self.low))
            self.high = clip_to_finite(max(finite.max(), -np.inf if self.high is None else self.high))

    def _add_texts(self, present: pa.Array) -> None:
        if len(self.examples) < MAX_EXAMPLES:
            self.examples += present.slice(0, MAX_EXAMPLES - len(self.examples)).to_pylist()
        if self.texts is not None:
            self.texts |= set(present.unique().slice(0, MAX_TEXTS + 1).to_pylist())
            if len(self.texts) > MAX_TEXTS:
                self.texts = None

    def _narrow_types(self, present: pa.Array) -> None:
        """Drop the candidate types that do not parse all of these texts."""
        may_be_null = pc.is_in(present, value_set=pa.array(sorted(NULL_TEXTS)))
        self._null_texts |= set(present.filter(may_be_null).unique().to_pylist())
        present = present.filter(pc.invert(may_be_null))
        self._parsed += len(present)
        for kind in list(self._candidate_types):
            is_name = {pa.int64(): NO_INTEGER, pa.float64(): NO_NUMBER}.get(kind)
            values, invalid = parse_column(present, kind)
            if invalid.any() or (is_name and pc.any(pc.match_substring_regex(present, is_name.pattern)).as_py()):
                self._candidate_types.remove(kind)
            elif is_name and kind == self._candidate_types[0]:
                self._add_numbers(values)
