"""Release rows from quarantine after a fix: rows that now pass join their partition as a new version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.content_digest import ContentDigest
from airflow_mlops.core.data.enforce_contract import Enforcement, Interval
from airflow_mlops.core.data.key_text import require_whole_key
from airflow_mlops.core.data.quarantined_rows import SCHEMA, is_broken, open_quarantine, split_columns
from airflow_mlops.core.data.shape import Rule, Shape, key_rules
from airflow_mlops.core.declaration.arrow_types import parse_type
from airflow_mlops.core.declaration.key_columns import key_columns
from airflow_mlops.core.declaration.text_form import TextForm
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.validation.publish_snapshot import record_publication
from airflow_mlops.core.validation.suite import Expectation, columns_read, read_suite
from airflow_mlops.core.workspace import Workspace

if TYPE_CHECKING:
    from airflow_mlops.core.validation.suite import Validator


@dataclass(frozen=True)
class Release:
    """The result of a release: rows that joined their partition, and rows that stay, with the present reasons."""

    partition: str
    released: int
    kept: int
    reasons: dict[str, int]
    record: int | None
    outdated: tuple[str, ...] = ()


def read_quarantine(workspace: Workspace, partition: str) -> pa.Table:
    """Return the quarantined rows of a partition, of its publication or of its newest refusal.

    Raises
    ------
    DataError
        If there are no such rows.
    """
    return open_quarantine(workspace.quarantine, workspace.state(), partition).read_all()


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
        Only rows with these keys, as the quarantine has them.
    accept : str, optional
        Reason to release rows that the suite finds bad; the ledger records the reason and the person. The contract
        still applies.

    Raises
    ------
    DataError
        If the partition is not published, or holds no bad rows, or a key has more or fewer parts than the key of the
        loop has columns.
    """
    for key in keys or ():
        require_whole_key(workspace, key)
    published = workspace.state().published.get(partition)
    if published is None:
        raise DataError(
            f"partition {partition} is not published: correct the contract, the suite or data.tolerance and "
            "ingest it again"
        )
    if partition in workspace.state().refused:
        raise DataError(
            f"the newest delivery of partition {partition} was refused, and what is in quarantine is of that delivery: "
            "correct it and ingest the partition again"
        )
    quarantined = read_quarantine(workspace, partition)
    release = _QuarantineRelease(workspace, partition, published, quarantined, keys)
    release.judge_by_contract()
    if accept is None:
        release.judge_by_suite(validator)
    if not release.good:
        return Release(partition, 0, quarantined.num_rows, release.reasons(), None)
    return release.publish(accept)


class _QuarantineRelease:
    def __init__(
        self,
        workspace: Workspace,
        partition: str,
        published: SnapshotPublished,
        quarantined: pa.Table,
        keys: Sequence[str] | None,
    ) -> None:
        self.workspace, self.partition, self.published, self.quarantined = workspace, partition, published, quarantined
        self.shape = published_shape(workspace, published.columns)
        rows = [json.loads(text) for text in quarantined.column("row").to_pylist()]
        wanted_keys = None if keys is None else set(keys)
        self.selected = [
            at
            for at, key in enumerate(quarantined.column("key").to_pylist())
            if not is_broken(rows[at]) and (wanted_keys is None or key in wanted_keys)
        ]
        self.bad: dict[int, list[str]] = {}
        self.rows = self.shape.schema.empty_table()

    @property
    def good(self) -> list[int]:
        """Positions in the quarantine of the rows to release."""
        return [at for at in self.selected if at not in self.bad]

    def judge_by_contract(self) -> None:
        """Check the rows by the contract; rows that break it, or whose key is in the partition already, stay."""
        data = self.workspace.loop.data
        rows, reasons = self._read_selected()
        keys = rows.column(data.key).combine_chunks()
        existing_keys = self._keys_in_partition(keys)
        key_counts = pc.value_counts(keys)
        repeated = {entry["values"] for entry in key_counts.to_pylist() if entry["counts"] > 1}
        for at, key in enumerate(keys.to_pylist()):
            if key in existing_keys:
                reasons.setdefault(at, []).append(f"{data.key}: is not unique: {key!r} is in the partition already")
            elif key in repeated:
                reasons.setdefault(at, []).append(f"{data.key}: is not unique: {key!r} is in quarantine more than once")
        self.bad = {self.selected[at]: row_reasons for at, row_reasons in reasons.items()}
        self.rows = rows

    def _read_selected(self) -> tuple[pa.Table, dict[int, list[str]]]:
        """Return the selected rows as values, and the reasons against them by their position among these.

        A row that broke the contract has the text of its source; one that broke the suite was read before, and its
        values are written plainly. The selection is ordered so.
        """
        stages = self.quarantined.column("stage").to_pylist()
        as_read = [at for at in self.selected if stages[at] == "expectations"]
        as_arrived = [at for at in self.selected if stages[at] != "expectations"]
        self.selected = [*as_arrived, *as_read]
        source_shape = with_source_forms(self.shape, self.workspace)
        data, batches, reasons = self.workspace.loop.data, list[pa.RecordBatch](), dict[int, list[str]]()
        interval = Interval.of(data.schedule, self.partition)
        for positions, shape, form in ((as_arrived, source_shape, None), (as_read, self.shape, TextForm())):
            texts = split_columns(self.quarantined.take(pa.array(positions, pa.int64())), shape.schema.names)
            batch, faults = Enforcement(shape, data, interval, raw=False, form=form).read(texts)
            start = sum(other.num_rows for other in batches)
            reasons |= {start + at: row_reasons for at, row_reasons in faults.items()}
            batches.append(batch)
        return pa.Table.from_batches(batches), reasons

    def judge_by_suite(self, validator: Validator) -> None:
        """Check the remaining rows, together with those of the partition, by the suite."""
        data = self.workspace.loop.data
        suite: list[Expectation] = read_suite(self.workspace.root / data.expectations) if data.expectations else []
        if not suite or not self.good:
            return
        columns = columns_read(suite) or self.shape.schema.names
        existing = self.workspace.snapshots.read(self.partition, version=self.published.version, columns=columns)
        candidates = self._released_rows().select(columns)
        partition_rows = pa.concat_tables([existing, candidates.cast(existing.schema)])
        positions = self.good
        for result in validator.check(partition_rows, suite):
            if result.severity != "critical" or result.success:
                continue
            if not result.by_row:
                raise DataError(
                    f"released, the rows would break {result.summary} of the whole partition; none was released"
                )
            for row in result.rows:
                if row >= existing.num_rows:
                    self.bad.setdefault(positions[row - existing.num_rows], []).append(result.reason)

    def publish(self, accept: str | None) -> Release:
        """Write the partition with the released rows and the quarantine without them, and record the release."""
        workspace, digest = self.workspace, ContentDigest()
        released = self._released_rows()
        version = workspace.snapshots.write(
            self.partition, pa.RecordBatchReader.from_batches(self.shape.schema, self._join_rows(released, digest))
        )
        good = set(self.good)
        remaining = self.quarantined.take(
            pa.array([at for at in range(self.quarantined.num_rows) if at not in good], pa.int64())
        )
        quarantine_version = workspace.quarantine.write(self.partition, remaining.select(SCHEMA.names))
        report = workspace.evidence.put(
            {
                "partition": self.partition,
                "released": len(good),
                "kept": remaining.num_rows,
                "accepted_because": accept,
                "keys": sorted(
                    str(key) for key in self.quarantined.column("key").take(pa.array(sorted(good))).to_pylist()
                ),
                "reasons_of_old": self.quarantined.column("reasons").take(pa.array(sorted(good))).to_pylist(),
            }
        )
        details = replace(
            self.published,
            version=version,
            digest=digest.hexdigest(),
            rows=digest.rows,
            quarantined=remaining.num_rows,
            quarantine_version=quarantine_version if remaining.num_rows else None,
            report=report,
            released=len(good),
            accepted_because=accept,
            replaces=None,
            outdated=None,
        )
        record = record_publication(workspace, self.partition, details)
        outdated = record.details.outdated or ()
        return Release(self.partition, len(good), remaining.num_rows, self.reasons(), record.sequence, outdated)

    def reasons(self) -> dict[str, int]:
        """Return the number of rows that stay, by reason."""
        counts: dict[str, int] = {}
        for row_reasons in self.bad.values():
            for reason in row_reasons:
                counts[reason] = counts.get(reason, 0) + 1
        return counts

    def _released_rows(self) -> pa.Table:
        places = [place for place, at in enumerate(self.selected) if at not in self.bad]
        return self.rows.take(pa.array(places, pa.int64()))

    def _join_rows(self, released: pa.Table, digest: ContentDigest) -> Iterator[pa.RecordBatch]:
        existing = self.workspace.snapshots.batches(self.partition, version=self.published.version)
        for batch in released.to_batches():
            digest.update(batch)
            yield batch
        for batch in existing:
            stored = batch.select(self.shape.schema.names).cast(self.shape.schema)
            digest.update(stored)
            yield stored

    def _keys_in_partition(self, keys: pa.Array) -> set[Any]:
        name = self.workspace.loop.data.key
        present: set[Any] = set()
        for batch in self.workspace.snapshots.batches(self.partition, version=self.published.version, columns=[name]):
            column = batch.column(name)
            present.update(column.filter(pc.is_in(column, value_set=keys.cast(column.type))).to_pylist())
        return present


def with_source_forms(shape: Shape, workspace: Workspace) -> Shape:
    """Return a shape whose times are in the form in which the source writes them."""
    contract = workspace.contract
    if contract is None:
        return shape
    has_text = workspace.loop.data.source.kind in ("csv", "json", "http")
    declared = {name: (column.format if has_text else None, column.clock) for name, column in contract.columns.items()}
    rules = (
        replace(rule, format=form, clock=clock)
        for rule in shape.rules
        for form, clock in [declared.get(rule.name, (None, None))]
    )
    return replace(shape, rules=tuple(rules))


def published_shape(workspace: Workspace, columns: dict[str, str]) -> Shape:
    """Return the published shape of a partition for rows of text, with the present rules of the contract."""
    contract, key = workspace.contract, workspace.loop.data.key
    joined, rules = key_rules(key), list[Rule]()
    for name, kind in columns.items():
        if any(rule.name == name for rule in joined):
            continue
        declared = contract.columns.get(name) if contract else None
        stored_type = parse_type(kind)
        assert stored_type is not None, f"{name}: {kind} was published"
        nullable = name not in key_columns(key) and (declared is None or declared.nullable)
        finite = declared is None or declared.finite
        rules.append(Rule(name, stored_type, len(rules), nullable, finite, declared is not None and declared.mask))
    late, early = (contract.late, contract.early) if contract else ("accept", "accept")
    return Shape((*rules, *joined), typed=False, nulls=(), late=late, early=early)
