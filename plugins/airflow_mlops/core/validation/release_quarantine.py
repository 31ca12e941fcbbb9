"""Release rows from quarantine after a fix: judged once more, they join their partition as a new version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.content_digest import ContentDigest
from airflow_mlops.core.data.enforce_contract import Enforcement, Interval
from airflow_mlops.core.data.quarantined_rows import SCHEMA, is_broken, split_columns
from airflow_mlops.core.data.shape import Rule, Shape
from airflow_mlops.core.declaration.arrow_types import parse_type
from airflow_mlops.core.declaration.partition_key import previous_tick
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.validation.publish_snapshot import record_publication
from airflow_mlops.core.validation.suite import Expectation, columns_read, read_suite
from airflow_mlops.core.workspace import Workspace

if TYPE_CHECKING:
    from airflow_mlops.core.validation.suite import Validator


@dataclass(frozen=True)
class Release:
    """What a release did: rows that joined their partition, and those that stay, with the reasons of today."""

    partition: str
    released: int
    kept: int
    reasons: dict[str, int]
    record: int | None
    outdated: tuple[str, ...] = ()


def held_rows(workspace: Workspace, partition: str) -> pa.Table:
    """Return the rows of a partition in quarantine, as its publication left them, or its refusal.

    Raises
    ------
    DataError
        If there are none.
    """
    known = workspace.state().published.get(partition)
    if known is not None and partition not in workspace.state().refused:
        if known.quarantine_version is None:
            raise DataError(f"partition {partition} has no rows in quarantine")
        return workspace.quarantine.read(partition, version=known.quarantine_version)
    return workspace.quarantine.read(partition)


def release_quarantine(
    workspace: Workspace,
    partition: str,
    validator: Validator,
    *,
    keys: Sequence[str] | None = None,
    accept: str | None = None,
) -> Release:
    """Release the quarantined rows of a partition that now meet the contract and the suite.

    Parameters
    ----------
    keys : sequence of str, optional
        Only rows with these keys.
    accept : str, optional
        Why rows are good that the suite finds bad: they are released all the same, and the ledger names the
        reason and the person. The contract holds for them too.

    Raises
    ------
    DataError
        If the partition is not published, or holds no bad rows.
    """
    known = workspace.state().published.get(partition)
    if known is None:
        raise DataError(
            f"partition {partition} is not published: correct the contract, the suite or data.tolerance and "
            "ingest it again"
        )
    if partition in workspace.state().refused:
        raise DataError(
            f"the newest delivery of partition {partition} was refused, and what is in quarantine is of that delivery: "
            "correct it and ingest the partition again"
        )
    held = held_rows(workspace, partition)
    releasing = _Releasing(workspace, partition, known, held, keys)
    releasing.judge_by_contract()
    if accept is None:
        releasing.judge_by_suite(validator)
    if not releasing.good:
        return Release(partition, 0, held.num_rows, releasing.reasons(), None)
    return releasing.publish(accept)


class _Releasing:
    def __init__(
        self, workspace: Workspace, partition: str, known: SnapshotPublished, held: pa.Table, keys: Sequence[str] | None
    ) -> None:
        self.workspace, self.partition, self.known, self.held = workspace, partition, known, held
        self.shape = shape_in_ledger(workspace, known.columns)
        rows = [json.loads(text) for text in held.column("row").to_pylist()]
        asked = None if keys is None else set(keys)
        self.asked = [
            at
            for at, key in enumerate(held.column("key").to_pylist())
            if not is_broken(rows[at]) and (asked is None or key in asked)
        ]
        self.bad: dict[int, list[str]] = {}
        self.rows = self.shape.schema.empty_table()

    @property
    def good(self) -> list[int]:
        """Positions in the quarantine of the rows to release."""
        return [at for at in self.asked if at not in self.bad]

    def judge_by_contract(self) -> None:
        """Read the rows by the contract; what cannot be read, or whose key is there already, stays."""
        data = self.workspace.loop.data
        interval = Interval.between(previous_tick(data.every, self.partition), self.partition)
        enforcement = Enforcement(self.shape, data, interval, raw=False)
        texts = split_columns(self.held.take(pa.array(self.asked, pa.int64())), self.shape.schema.names)
        kept, reasons = enforcement.read(texts)
        keys = kept.column(data.key)
        there = self._keys_in_partition(keys)
        again = pc.value_counts(keys)
        twice = {entry["values"] for entry in again.to_pylist() if entry["counts"] > 1}
        for at, key in enumerate(keys.to_pylist()):
            if key in there:
                reasons.setdefault(at, []).append(f"{data.key}: is not unique: {key!r} is in the partition already")
            elif key in twice:
                reasons.setdefault(at, []).append(f"{data.key}: is not unique: {key!r} is in quarantine more than once")
        self.bad = {self.asked[at]: why for at, why in reasons.items()}
        self.rows = pa.Table.from_batches([kept])

    def judge_by_suite(self, validator: Validator) -> None:
        """Hold the rows that are left, together with those of the partition, against the suite."""
        data = self.workspace.loop.data
        suite: list[Expectation] = read_suite(self.workspace.root / data.expectations) if data.expectations else []
        if not suite or not self.good:
            return
        columns = columns_read(suite) or self.shape.schema.names
        there = self.workspace.snapshots.read(self.partition, version=self.known.version, columns=columns)
        candidates = self._released().select(columns)
        whole = pa.concat_tables([there, candidates.cast(there.schema)])
        positions = self.good
        for result in validator.check(whole, suite):
            if result.severity != "critical" or result.success:
                continue
            if not result.by_row:
                raise DataError(
                    f"released, the rows would break {result.summary} of the whole partition; none was released"
                )
            for row in result.rows:
                if row >= there.num_rows:
                    self.bad.setdefault(positions[row - there.num_rows], []).append(result.reason)

    def publish(self, accept: str | None) -> Release:
        """Write the partition with the released rows, the quarantine without them, and record both."""
        workspace, counted = self.workspace, ContentDigest()
        released = self._released()
        version = workspace.snapshots.write(
            self.partition, pa.RecordBatchReader.from_batches(self.shape.schema, self._joined(released, counted))
        )
        good = set(self.good)
        stay = self.held.take(pa.array([at for at in range(self.held.num_rows) if at not in good], pa.int64()))
        kept = workspace.quarantine.write(self.partition, stay.select(SCHEMA.names))
        report = workspace.evidence.put({
            "partition": self.partition, "released": len(good), "kept": stay.num_rows, "accepted_because": accept,
            "keys": sorted(str(key) for key in self.held.column("key").take(pa.array(sorted(good))).to_pylist()),
            "reasons_of_old": self.held.column("reasons").take(pa.array(sorted(good))).to_pylist(),
        })  # fmt: skip
        details = replace(
            self.known,
            version=version,
            digest=counted.hexdigest(),
            rows=counted.rows,
            quarantined=stay.num_rows,
            quarantine_version=kept if stay.num_rows else None,
            report=report,
            released=len(good),
            accepted_because=accept,
            replaces=None,
            outdated=None,
        )
        record = record_publication(workspace, self.partition, details)
        outdated = record.details.outdated or ()
        return Release(self.partition, len(good), stay.num_rows, self.reasons(), record.sequence, outdated)

    def reasons(self) -> dict[str, int]:
        """Return how often each reason keeps a row back."""
        found: dict[str, int] = {}
        for why in self.bad.values():
            for reason in why:
                found[reason] = found.get(reason, 0) + 1
        return found

    def _released(self) -> pa.Table:
        places = [place for place, at in enumerate(self.asked) if at not in self.bad]
        return self.rows.take(pa.array(places, pa.int64()))

    def _joined(self, released: pa.Table, counted: ContentDigest) -> Iterator[pa.RecordBatch]:
        there = self.workspace.snapshots.batches(self.partition, version=self.known.version)
        for batch in released.to_batches():
            counted.update(batch)
            yield batch
        for batch in there:
            same = batch.select(self.shape.schema.names).cast(self.shape.schema)
            counted.update(same)
            yield same

    def _keys_in_partition(self, keys: pa.Array) -> set[Any]:
        name = self.workspace.loop.data.key
        found: set[Any] = set()
        for batch in self.workspace.snapshots.batches(self.partition, version=self.known.version, columns=[name]):
            column = batch.column(name)
            found.update(column.filter(pc.is_in(column, value_set=keys.cast(column.type))).to_pylist())
        return found


def shape_in_ledger(workspace: Workspace, columns: dict[str, str]) -> Shape:
    """Return the shape that a partition was published in, for rows of text; the contract's rules hold today."""
    contract, key = workspace.contract, workspace.loop.data.key
    rules = []
    for place, (name, kind) in enumerate(columns.items()):
        declared = contract.columns.get(name) if contract else None
        found = parse_type(kind)
        assert found is not None, f"{name}: {kind} was published"
        nullable = name != key if declared is None else declared.nullable and name != key
        finite = declared is None or declared.finite
        rules.append(Rule(name, found, place, nullable, finite, declared is not None and declared.mask))
    late, early = (contract.late, contract.early) if contract else ("accept", "accept")
    return Shape(tuple(rules), typed=False, nulls=(), late=late, early=early)
