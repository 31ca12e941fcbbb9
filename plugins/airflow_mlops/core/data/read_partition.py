"""One pass over the rows of a partition: check their shape and keys, count them and digest them.

Good rows go to the consumer, bad rows to the spool. Faults of the whole partition (no rows, too many bad rows,
duplicate keys) are raised at the end of the pass, before the consumer can commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.content_digest import ContentDigest
from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.enforce_contract import Enforcement
from airflow_mlops.core.data.naming_hint import naming_hint
from airflow_mlops.core.data.quarantined_rows import Spool, quarantine_broken, quarantine_rows
from airflow_mlops.core.data.row_hash import HashedRows, Hashes, hash_rows
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ports.partitions import Arrival, BrokenRow

MAX_DUPLICATES = 1_000_000


class KeysRepeatError(Exception):
    """Hashes of keys repeat: the partition has to be read again to compare the keys themselves."""

    def __init__(self, hashes: Hashes) -> None:
        super().__init__(f"{len(hashes):,} keys may repeat")
        self.hashes = hashes


@dataclass
class RepeatedKeys:
    """The keys whose hashes repeat: their hashes, the hashes of their rows, and the keys emitted so far.

    Of a partition that is read in splits, ``first`` is the split in which each key is found first.
    """

    hashes: Hashes
    rows: dict[str, list[int]] = field(default_factory=dict)
    emitted: set[str] = field(default_factory=set)
    first: dict[str, int] = field(default_factory=dict)

    def suspect_positions(self, keys: Hashes) -> list[int]:
        """Return the positions of the rows in a batch whose key may repeat, from the hashes of their keys."""
        return np.flatnonzero(np.isin(keys, self.hashes)).tolist()

    def collect(self, key: str, row: int) -> None:
        """Add the hash of a row whose key may repeat.

        Raises
        ------
        PartitionRefusedError
            If more than ``MAX_DUPLICATES`` keys may repeat.
        """
        self.rows.setdefault(key, []).append(row)
        if len(self.rows) > MAX_DUPLICATES:
            raise PartitionRefusedError(f"more than {MAX_DUPLICATES:,} keys are not unique, for example {key!r}")

    def reason(self, key: str) -> str | None:
        """Return the fault of the next row of a key; None for its only row, and for the first of equal rows."""
        rows = self.rows.get(key, [])
        if len(rows) < 2:
            return None
        if len(set(rows)) > 1:
            return f"is not unique: {key!r} stands there {len(rows)} times with different values"
        if key in self.emitted:
            return f"is not unique: {key!r} stands there {len(rows)} times, and this row is a copy"
        self.emitted.add(key)
        return None


@dataclass(frozen=True)
class PassCounts:
    """The counts of a pass over a split, as plain values.

    ``arrived`` and ``bad`` are rows, ``late`` and ``early`` those outside the partition, ``digest`` and ``rejected``
    the content digests of good and bad rows, and ``reasons`` the bad rows by rule.
    """

    arrived: int
    late: int
    early: int
    digest: dict[str, Any]
    rejected: dict[str, Any]
    bad: int
    reasons: dict[str, int]


@dataclass
class PartitionPass:
    """One pass over an arrival; counts and digests are complete once the batches are consumed.

    Parameters
    ----------
    enforcement : Enforcement
        The checks of each row.
    data : Data
        The declared key, tolerance and limits.
    spool : Spool
        Receives the bad rows.
    repeated : RepeatedKeys, optional
        Result of the pass before, if keys may repeat.
    watchers : list of Watcher
        Called with the good rows of each batch and their hashes.
    """

    enforcement: Enforcement
    data: Data
    spool: Spool
    repeated: RepeatedKeys | None = None
    watchers: list[Watcher] = field(default_factory=list)
    digest: ContentDigest = field(default_factory=ContentDigest)
    rejected: ContentDigest = field(default_factory=ContentDigest)
    arrived: int = 0

    def good_rows(self, arrival: Arrival) -> Iterator[pa.RecordBatch]:
        """Yield the good rows, batch by batch.

        Raises
        ------
        PartitionRefusedError
            If there are no rows, more bad rows than tolerated, or more rows than the limits allow.
        KeysRepeatError
            If hashes of keys repeat that ``repeated`` does not hold.
        """
        with KeySpool() as keys:
            yield from self.read_batches(arrival.batches, keys.add)
            duplicates = keys.duplicates()
        self.end(arrival.broken, duplicates)

    def read_batches(
        self, batches: Iterator[pa.RecordBatch], add: Callable[[Hashes], None]
    ) -> Iterator[pa.RecordBatch]:
        """Yield the good rows of some batches of the arrival, and pass the hashes of their keys to ``add``.

        Raises
        ------
        PartitionRefusedError
            If there are more rows than the limits allow.
        """
        for batch in batches:
            self.arrived += batch.num_rows
            self._refuse_too_many()
            good, hashed = self._split(batch)
            add(hashed.keys if hashed.keys is not None else hashed.rows)
            self.digest.add(hashed)
            for watcher in self.watchers:
                watcher.update(good, hashed)
            yield good

    def merge(self, counts: PassCounts) -> None:
        """Add what was counted of a split, whose rows are kept elsewhere; splits come in their order.

        Raises
        ------
        PartitionRefusedError
            If there are more rows than the limits allow.
        """
        self.arrived += counts.arrived
        self.enforcement.late += counts.late
        self.enforcement.early += counts.early
        self.digest.merge(ContentDigest.from_dict(counts.digest))
        self.rejected.merge(ContentDigest.from_dict(counts.rejected))
        self.spool.count(counts.bad, counts.reasons)
        self._refuse_too_many()

    def counts(self) -> PassCounts:
        """Return the counts so far, for :meth:`merge` in another process."""
        return PassCounts(
            self.arrived,
            self.enforcement.late,
            self.enforcement.early,
            self.digest.to_dict(),
            self.rejected.to_dict(),
            self.spool.rows,
            self.spool.reasons,
        )

    def end(self, broken: list[BrokenRow], duplicates: Hashes) -> None:
        """Reject the broken rows, and judge the partition as a whole.

        Parameters
        ----------
        broken : list of BrokenRow
            The rows that could not be split into columns.
        duplicates : ndarray of uint64, shape (n_hashes,)
            Hashes of keys that were passed on more than once, in ascending order.

        Raises
        ------
        PartitionRefusedError
            If there are no rows, or more bad rows than tolerated.
        KeysRepeatError
            If hashes of keys repeat that ``repeated`` does not hold.
        """
        self._reject_broken(broken)
        checked = self.repeated.hashes if self.repeated is not None else duplicates[:0]
        if len(np.setdiff1d(duplicates, checked)):
            raise KeysRepeatError(np.union1d(duplicates, checked))
        self._refuse_whole()

    def collect(self, batches: Iterator[pa.RecordBatch]) -> RepeatedKeys:
        """Read rows and return those whose key may repeat."""
        assert self.repeated is not None
        for batch in batches:
            rows, reasons = self.enforcement.read(batch)
            hashed = hash_rows(rows, key=self.data.key)
            assert hashed.keys is not None
            texts = rows.column(self.data.key)
            for at in self.repeated.suspect_positions(hashed.keys):
                if at not in reasons:
                    self.repeated.collect(str(texts[at].as_py()), int(hashed.rows[at]))
        return self.repeated

    @property
    def content(self) -> str:
        """The digest of all rows that arrived, good and bad."""
        good = self.digest.hexdigest()
        if self.spool.rows == 0:
            return good
        return hashlib.sha256(f"{good}|{self.rejected.hexdigest()}".encode()).hexdigest()

    @property
    def hint(self) -> str | None:
        """The likely mistake in the names of the files, if most rows lie outside the partition."""
        return naming_hint(self.enforcement, self.arrived)

    def _split(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, HashedRows]:
        rows, reasons = self.enforcement.read(batch)
        hashed = hash_rows(rows, key=self.data.key)
        if self.repeated is not None and hashed.keys is not None:
            texts = rows.column(self.data.key)
            for at in self.repeated.suspect_positions(hashed.keys):
                reason = None if at in reasons else self.repeated.reason(str(texts[at].as_py()))
                if reason is not None:
                    reasons[at] = [f"{self.data.key}: {reason}"]
        if not reasons:
            return rows, hashed
        positions = sorted(reasons)
        bad = self.enforcement.format_rows(batch, positions)
        self._reject(quarantine_rows(bad, [reasons[at] for at in positions], key=self.data.key, stage="contract"))
        mask = np.ones(batch.num_rows, bool)
        mask[positions] = False
        good = rows.filter(pa.array(mask))
        return good, hash_rows(good, key=self.data.key)

    def _reject_broken(self, broken: list[BrokenRow]) -> None:
        if broken:
            self.arrived += len(broken)
            masks = any(rule.mask for rule in self.enforcement.shape.rules)
            self._reject(quarantine_broken(broken, withheld=masks))

    def _reject(self, rows: pa.Table) -> None:
        self.spool.add(rows)
        for batch in rows.select(["row"]).to_batches():
            self.rejected.update(batch)

    def _refuse_too_many(self) -> None:
        limits, cells = self.data.limits, self.arrived * len(self.enforcement.shape.rules)
        if self.arrived > limits.rows or cells > limits.cells:
            raise PartitionRefusedError(
                f"more than {limits.rows:,} rows or {limits.cells:,} cells arrived; raise data.limits if that is meant"
            )

    def _refuse_whole(self) -> None:
        if self.arrived == 0:
            raise PartitionRefusedError("the partition is empty: 0 rows arrived")
        refuse_too_bad(self.spool, self.arrived, self.data.tolerance, hint=self.hint)


class Watcher(Protocol):
    """An observer of every good row, such as a profile or a sample."""

    def update(self, batch: pa.RecordBatch, hashed: HashedRows) -> None:
        """Observe the good rows of a batch and their hashes."""


def refuse_too_bad(spool: Spool, arrived: int, tolerance: float, *, hint: str | None = None) -> None:
    """Raise PartitionRefusedError if more rows are bad than the tolerance allows, a share of those that arrived."""
    bad = spool.rows
    if bad > tolerance * arrived:
        advice = "".join(f"; {text}" for text in (hint, spool.advice) if text)
        raise PartitionRefusedError(
            f"{bad:,} of {arrived:,} rows are bad ({bad / arrived:.2%}); the declared tolerance is {tolerance:.2%}; "
            f"{spool.worst}; all of them are in quarantine{advice}"
        )
