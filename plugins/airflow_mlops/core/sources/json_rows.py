"""Records of a JSON answer as rows of text: numbers by their digits, nothing rounded, nothing guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from airflow_mlops.core.declaration.contract import first_match
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, BrokenRow

MAX_BROKEN_ROWS = 100_000


class _Twice(dict[str, Any]):
    """An object of which a key stands there twice; which one is meant, nobody can say."""

    key = ""


def read_json(content: bytes) -> Any:
    """Return a JSON text with every number as the text that stands there.

    Raises
    ------
    ValueError
        If it is no JSON in UTF-8; also where it is nested too deep.
    """
    try:
        text = content.decode("utf-8-sig")
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = _Twice(found)
    names = [name for name, _ in pairs]
    twice.key = next(name for name in names if names.count(name) > 1)
    return twice


def at_path(answer: Any, path: str | None) -> Any:
    """Return what stands at a dotted path of an answer, None if there is nothing."""
    for part in path.split(".") if path else ():
        answer = answer.get(part) if isinstance(answer, dict) else None
    return answer


class JsonRows:
    """Turns pages of records into batches with the same columns.

    The columns are the keys of the first page and those of the contract. A key that appears later and is none of them
    refuses the partition, as a file with another column would: whether a new key is wanted is a change of the
    contract, and must not depend on the page on which it stands.

    Parameters
    ----------
    columns : sequence of str
        Names that the contract knows.
    required : set of str
        Those of them that must appear in at least one record.
    ignored : tuple of str
        Patterns of keys that are left out.
    where : str
        Whose records they are, for errors.
    broken : list of BrokenRow
        Where records that are no rows are put.
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
        self._names, self._seen, self._rows = set(names), set[str](), 0

    def batches(self, records: Sequence[Any], place: str) -> Iterator[pa.RecordBatch]:
        """Yield the records of the page at ``place``, every value as text.

        Raises
        ------
        PartitionRefusedError
            If a record has a key that no column is for, or far too many records are broken.
        """
        rows = []
        for number, record in enumerate(records, start=1):
            reason = self._fault(record, f"{place}, record {number}")
            if reason is None:
                rows.append(record)
            else:
                self._set_aside(record, reason, f"{place}, record {number}")
        self._rows += len(rows)
        for start in range(0, len(rows), BATCH_ROWS):
            part = rows[start : start + BATCH_ROWS]
            columns = [pa.array([_text(row.get(name)) for row in part], pa.string()) for name in self.schema.names]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def end(self) -> None:
        """Say that there are no more pages.

        Raises
        ------
        PartitionRefusedError
            If a column of the contract stood in no record at all.
        """
        missing = sorted(self._required - self._seen)
        if self._rows and missing:
            raise PartitionRefusedError(
                f"{self._where}: column {missing[0]!r} is in none of {self._rows:,} records, though the contract has "
                "it; declare it optional if it may be missing"
            )

    def _fault(self, record: Any, at: str) -> str | None:
        """Return why a record is no row, None if it is one."""
        if not isinstance(record, dict):
            return "is no object"
        if not record:
            return "is an empty object"
        if isinstance(record, _Twice):
            return f"has the key {record.key!r} twice"
        strange = [key for key in record if key not in self._names and not first_match(key, self._ignored)]
        if strange:
            raise PartitionRefusedError(
                f"{self._where}: {at} has the key {strange[0]!r}, which neither the first page nor the contract has; "
                "add it to the contract, or to its ignore"
            )
        nested = next((key for key, value in record.items() if isinstance(value, dict | list)), None)
        if nested is not None and nested in self._names:
            return f"holds no single value in {nested!r}"
        if any(isinstance(value, str) and not _encodes(value) for value in record.values()):
            return "holds half of a character (a lone surrogate)"
        self._seen.update(record)
        return None

    def _set_aside(self, record: Any, reason: str, at: str) -> None:
        if len(self._broken) >= MAX_BROKEN_ROWS:
            raise PartitionRefusedError(
                f"{self._where}: more than {MAX_BROKEN_ROWS:,} records are broken, the first at {self._broken[0].at}: "
                f"it {self._broken[0].reason}"
            )
        self._broken.append(BrokenRow(json.dumps(record), reason, at))


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    assert value is None or isinstance(value, str)
    return value


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
