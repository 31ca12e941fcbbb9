"""Convert the records of a JSON answer to rows of text: numbers keep their digits, nothing is rounded or guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from airflow_mlops.core.declaration.contract import first_match
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, BrokenRow

MAX_BROKEN_ROWS = 100_000


class _DuplicateKeyObject(dict[str, Any]):
    """An object with a duplicate key, whose value is therefore ambiguous."""

    key = ""


def read_json(content: bytes) -> Any:
    """Return a parsed JSON text, with every number as its text.

    Raises
    ------
    ValueError
        If it is not JSON in UTF-8, or is nested too deep.
    """
    try:
        text = content.decode("utf-8-sig")
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_build_object)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    duplicate = _DuplicateKeyObject(values)
    names = [name for name, _ in pairs]
    duplicate.key = next(name for name in names if names.count(name) > 1)
    return duplicate


def value_at(answer: Any, path: str | None) -> Any:
    """Return the value at a dotted path of an answer, None if there is no such path."""
    for part in path.split(".") if path else ():
        answer = answer.get(part) if isinstance(answer, dict) else None
    return answer


class JsonRows:
    """A converter of pages of records to batches with the same columns.

    The columns are the keys of the first page and those of the contract. Any other key on a later page refuses the
    partition, as a file with another column would: a new column is a change of the contract, and must not depend on
    the page on which its key appears first.

    Parameters
    ----------
    columns : sequence of str
        Columns of the contract.
    required : set of str
        Columns that must appear in at least one record.
    ignored : tuple of str
        Patterns of keys that are left out.
    where : str
        Partition and service, for errors.
    broken : list of BrokenRow
        List to which records that cannot be rows are added.

    Attributes
    ----------
    seen_keys : set of str
        Keys of the records that are rows.
    count : int
        Number of the records that are rows.
    """

    def __init__(
        self,
        first: Sequence[Any],
        *,
        columns: Sequence[str] = (),
        required: frozenset[str] = frozenset(),
        ignored: tuple[str, ...] = (),
        where: str,
        broken: list[BrokenRow],
    ) -> None:
        self._ignored, self._required, self._where, self._broken = ignored, required, where, broken
        keys = dict.fromkeys(key for record in first if isinstance(record, dict) for key in record)
        names = dict.fromkeys([*(key for key in keys if not first_match(key, ignored)), *columns])
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names])
        self._names, self.seen_keys, self.count = set(names), set[str](), 0

    def batches(
        self, records: Sequence[Any], place: str, *, lines: Sequence[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the records of the page at ``place``, every value as text; they have lines, or are counted.

        Raises
        ------
        PartitionRefusedError
            If a record has a key without a column, or far too many records are broken.
        """
        rows = []
        for number, record in enumerate(records):
            at = f"{place}, record {number + 1}" if lines is None else f"{place}, line {lines[number]}"
            reason = self._reason_to_reject(record, at)
            if reason is None:
                rows.append(record)
            else:
                self._reject_record(record, reason, at)
        self.count += len(rows)
        for start in range(0, len(rows), BATCH_ROWS):
            part = rows[start : start + BATCH_ROWS]
            columns = [pa.array([_text(row.get(name)) for row in part], pa.string()) for name in self.schema.names]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def end(self) -> None:
        """Check the columns after the last page.

        Raises
        ------
        PartitionRefusedError
            If a required column of the contract was in no record.
        """
        require_seen(self._required, self.seen_keys, self.count, self._where)

    def _reason_to_reject(self, record: Any, at: str) -> str | None:
        """Return the reason why a record cannot be a row, None if it can."""
        if not isinstance(record, dict):
            return "is no object"
        if not record:
            return "is an empty object"
        if isinstance(record, _DuplicateKeyObject):
            return f"has the key {record.key!r} twice"
        unknown = [key for key in record if key not in self._names and not first_match(key, self._ignored)]
        if unknown:
            raise PartitionRefusedError(
                f"{self._where}: {at} has the key {unknown[0]!r}, which neither the first page nor the contract has; "
                "add it to the contract, or to its ignore"
            )
        nested = next((key for key, value in record.items() if isinstance(value, dict | list)), None)
        if nested is not None and nested in self._names:
            return f"holds no single value in {nested!r}"
        if any(isinstance(value, str) and not _is_encodable(value) for value in record.values()):
            return "holds half of a character (a lone surrogate)"
        self.seen_keys.update(record)
        return None

    def _reject_record(self, record: Any, reason: str, at: str) -> None:
        if len(self._broken) >= MAX_BROKEN_ROWS:
            raise PartitionRefusedError(
                f"{self._where}: more than {MAX_BROKEN_ROWS:,} records are broken, the first at {self._broken[0].at}: "
                f"it {self._broken[0].reason}"
            )
        self._broken.append(BrokenRow(json.dumps(record), reason, at))


def require_seen(required: frozenset[str], seen: set[str], rows: int, where: str) -> None:
    """Raise PartitionRefusedError if there are rows, and a required column is in no record."""
    missing = sorted(required - seen)
    if rows and missing:
        raise PartitionRefusedError(
            f"{where}: column {missing[0]!r} is in none of {rows:,} records, though the contract has it; declare it "
            "optional if it may be missing"
        )


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    assert value is None or isinstance(value, str)
    return value


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
