"""Facts about a column, learned from its values batch by batch in bounded memory.

Columns of Parquet files have types. Columns of CSV files are text, and such a column is taken for numbers, dates, times
or booleans only if every value plainly is one; digits with a leading zero are a name, not a number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.profiles.partition_profile import clip_to_finite
from airflow_mlops.core.data.read_text import Mask, parse_column
from airflow_mlops.core.data.row_hash import hash_cells
from airflow_mlops.core.declaration.arrow_types import canonical_type, is_number, is_text, is_time
from airflow_mlops.core.declaration.text_form import TextForm

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
TIME_FORMATS = (
    *(
        f"{day}{clock}"
        for day in (
            "%d.%m.%Y",
            "%d/%m/%Y",
            "%m/%d/%Y",
            "%d-%m-%Y",
            "%m-%d-%Y",
            "%Y/%m/%d",
            "%Y.%m.%d",
            "%d.%m.%y",
            "%d-%b-%Y",
        )
        for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
    ),
    "%Y%m%d",
    "%d/%b/%Y:%H:%M:%S %z",
)
"""Forms of dates and times that text is tried for where it is no ISO 8601."""
MAYBE_TIME = r"^\d{1,4}[./-]?([A-Za-z]{3}|\d{1,2})[./-]?\d{1,4}([ :T].*)?$"
NULL_TEXTS = frozenset({"NA", "N/A", "NaN", "nan", "NULL", "null", "None", "-"})
MAX_TEXTS = 20
"""Largest number of different texts of a column that are stored."""
ROWS_PER_TEXT = 10
"""Rows for each different text below which the texts count as names and not as categories."""
LONGEST_TEXT = 60
MAX_EXAMPLES = 1_000


@dataclass
class ColumnFacts:
    """The facts about one column of some files.

    Parameters
    ----------
    name : str
        Name of the column.
    form : TextForm
        Signs of numbers and words for truth values in text.
    rows, nulls : int
        Number of rows in the files that have the column, and of those without a value.
    odd : bool
        Whether it holds NaN or an infinity.
    first, last : datetime or None
        Earliest and latest time, without a zone.
    numbers, counted : int
        Number of texts that are plainly numbers, of so many.
    no_numbers : list of str
        The first texts that are none.
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
    form: TextForm = field(default_factory=TextForm)
    rows: int = 0
    nulls: int = 0
    odd: bool = False
    first: datetime | None = None
    last: datetime | None = None
    numbers: int = 0
    counted: int = 0
    no_numbers: list[str] = field(default_factory=list)
    texts: set[str] | None = field(default_factory=set)
    examples: list[str] = field(default_factory=list)
    unsupported: str | None = None
    typed: pa.DataType | None = None
    _null_texts: Counter[str] = field(default_factory=Counter)
    _parsed: int = 0
    _formats: list[str] = field(default_factory=lambda: list(TIME_FORMATS))
    _lowest: Counter[float] = field(default_factory=Counter)
    _highest: Counter[float] = field(default_factory=Counter)
    _candidate_types: list[pa.DataType] = field(default_factory=lambda: list(CANDIDATE_TYPES))
    _keys: KeySpool | None = field(default_factory=KeySpool)

    @property
    def value_type(self) -> pa.DataType:
        """The type of the values, leaving out texts that may mean null."""
        if self.typed is not None:
            return self.typed
        if self.time_formats:
            if "%H" not in self.time_formats[0] and "%I" not in self.time_formats[0]:
                return pa.date32()
            return pa.timestamp("us", tz="UTC" if "%z" in self.time_formats[0] else None)
        return self._candidate_types[0] if self._candidate_types and self._parsed else pa.string()

    @property
    def kind(self) -> pa.DataType:
        """The type with which the column can be declared unchanged: text if some texts may mean null."""
        return pa.string() if self.null_texts else self.value_type

    @property
    def time_formats(self) -> list[str]:
        """The forms of dates or times that every text has, where none is ISO 8601 or a number."""
        return self._formats if self._parsed and not self._candidate_types else []

    @property
    def low(self) -> float | None:
        """The smallest finite number; None without numbers."""
        return clip_to_finite(min(self._lowest)) if self._lowest else None

    @property
    def high(self) -> float | None:
        """The largest finite number; None without numbers."""
        return clip_to_finite(max(self._highest)) if self._highest else None

    @property
    def few_numbers(self) -> set[float] | None:
        """The different finite numbers where there are at most two; None if there are more."""
        return set(self._lowest) if len(self._lowest) <= 2 else None

    @property
    def missing(self) -> float | None:
        """A number that repeats, farther from all others than they are from each other; None without one."""
        lowest, highest = sorted(self._lowest)[:2], sorted(self._highest)[-2:]
        if len(lowest) < 2 or len(highest) < 2:
            return None
        if self._lowest[lowest[0]] > 1 and lowest[1] - lowest[0] > highest[1] - lowest[1]:
            return lowest[0]
        if self._highest[highest[1]] > 1 and highest[1] - highest[0] > highest[0] - lowest[0]:
            return highest[1]
        return None

    @property
    def range_without_missing(self) -> tuple[float, float] | None:
        """The smallest and largest number but for ``missing``; None where nothing seems to stand for missing."""
        if self.missing is None:
            return None
        low = min(number for number in self._lowest if number != self.missing)
        return low, max(number for number in self._highest if number != self.missing)

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
        self._add_times(present)
        if is_text(present.type):
            self._add_texts(present.cast(pa.string()))
            if not typed:
                self._narrow_types(present)

    def read_as_null(self, texts: Sequence[str]) -> None:
        """Count the rows with these texts, of those that may mean null, as rows without a value."""
        count = sum(self._null_texts.pop(text, 0) for text in texts)
        self.nulls += count
        if self.texts is not None:
            self.texts -= set(texts)
        if count:
            self._drop_keys()

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
            numbers, counts = np.unique(finite, return_counts=True)
            for extremes, ends in ((self._lowest, slice(0, 3)), (self._highest, slice(-3, None))):
                extremes.update(dict(zip(numbers[ends].tolist(), counts[ends].tolist(), strict=True)))
                kept = sorted(extremes)[:3] if extremes is self._lowest else sorted(extremes)[-3:]
                for number in [number for number in extremes if number not in kept]:
                    del extremes[number]

    def _add_times(self, present: pa.Array) -> None:
        """Widen the range of times by those of a column of dates or times."""
        if not len(present) or not is_time(present.type):
            return
        times = present.cast(pa.timestamp("us", tz=getattr(present.type, "tz", None)), safe=False)
        ends = pc.min_max(times.cast(pa.timestamp("us"), safe=False))
        low, high = ends["min"].as_py(), ends["max"].as_py()
        if low is not None:
            self.first = low if self.first is None else min(self.first, low)
            self.last = high if self.last is None else max(self.last, high)

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
        self._null_texts.update(present.filter(may_be_null).to_pylist())
        present = present.filter(pc.invert(may_be_null))
        self._parsed += len(present)
        for kind in list(self._candidate_types):
            is_name = {pa.int64(): NO_INTEGER, pa.float64(): NO_NUMBER}.get(kind)
            values, invalid = parse_column(present, kind, form=self.form)
            if kind == pa.float64():
                self._count_numbers(present, invalid)
            if invalid.any() or (is_name and pc.any(pc.match_substring_regex(present, is_name.pattern)).as_py()):
                self._candidate_types.remove(kind)
            elif kind == self._candidate_types[0]:
                self._add_numbers(values)
                self._add_times(values)
        if self._formats and len(present):
            self._narrow_formats(present)

    def _count_numbers(self, present: pa.Array, invalid: Mask) -> None:
        """Count the texts that are plainly numbers, and keep the first that are none."""
        self.numbers += int((~invalid).sum())
        self.counted += len(present)
        if len(self.no_numbers) < 3 and invalid.any():
            others = present.filter(pa.array(invalid)).unique().slice(0, 3).to_pylist()
            self.no_numbers = list(dict.fromkeys([*self.no_numbers, *others]))[:3]

    def _narrow_formats(self, present: pa.Array) -> None:
        """Drop the forms of dates and times that do not parse all of these texts."""
        texts = present.unique()
        if not pc.all(pc.match_substring_regex(texts, MAYBE_TIME), min_count=0).as_py():
            self._formats = []
        self._formats = [
            form
            for form in self._formats
            if not parse_column(texts, pa.timestamp("us", tz="UTC" if "%z" in form else None), time_format=form)[
                1
            ].any()
        ]
        if self._formats:
            self._add_times(parse_column(texts, pa.timestamp("us"), time_format=self._formats[0])[0].drop_null())


def is_category(column: ColumnFacts) -> bool:
    """Return whether the texts of a column are few, short and repeat."""
    texts, values = column.texts, column.rows - column.nulls
    if not texts or len(texts) > MAX_TEXTS or values < ROWS_PER_TEXT * len(texts):
        return False
    return all(0 < len(text) <= LONGEST_TEXT for text in texts)
