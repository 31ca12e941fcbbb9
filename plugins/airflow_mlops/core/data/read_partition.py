"""One pass over the rows of a partition: held to their shape, told apart by their keys, counted, digested.

Good rows go on to whoever consumes them, bad rows to the spool. What is wrong with the whole shows at
the end of the pass, before its consumer could commit anything: too many bad rows, no rows, repeated keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.content_digest import ContentDigest
from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.enforce_contract import Enforcement
from airflow_mlops.core.data.quarantined_rows import Spool, broken, quarantined
from airflow_mlops.core.data.row_hash import HashedRows, Hashes, hash_rows
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ports.partitions import Arrival

COLLECTED = 1_000_000


class KeysRepeatError(Exception):
    """A pass has seen hashes of keys more than once: read again, and look at the keys themselves."""

    def __init__(self, hashes: Hashes) -> None:
        super().__init__(f"{len(hashes):,} keys may repeat")
        self.hashes = hashes


@dataclass
class RepeatedKeys:
    """Every row of the keys that may repeat: which hashes they are of, and the hash of each of its rows."""

    hashes: Hashes
    rows: dict[str, list[int]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def suspects(self, keys: Hashes) -> list[int]:
        """Return the positions in a batch of rows whose key may repeat."""
        return np.flatnonzero(np.isin(keys, self.hashes)).tolist()

    def collect(self, key: str, row: int) -> None:
        """Note a row of a key that may repeat."""
        self.rows.setdefault(key, []).append(row)
        if len(self.rows) > COLLECTED:
            raise PartitionRefusedError(f"more than {COLLECTED:,} keys are not unique, for example {key!r}")

    def reason(self, key: str) -> str | None:
        """Return what is wrong with the next row of a key; None for its only row, and for the first of equal rows."""
        rows = self.rows.get(key, [])
        if len(rows) < 2:
            return None
        if len(set(rows)) > 1:
            return f"is not unique: {key!r} stands there {len(rows)} times with different values"
        if key in self.kept:
            return f"is not unique: {key!r} stands there {len(rows)} times, and this row is a copy"
        self.kept.add(key)
        return None


@dataclass
class PartitionPass:
    """One reading of an arrival. After the batches are consumed the counts and digests are complete.

    Parameters
    ----------
    enforcement : Enforcement
        Holds rows to their shape.
    data : Data
        Names the key; states tolerance and limits.
    spool : Spool
        Takes the bad rows.
    repeated : RepeatedKeys, optional
        From the pass before, if that found keys that repeat.
    watchers : list
        Told of the good rows of each batch and of their hashes.
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
            At the end: no rows, or more bad ones than declared; on the way: more rows than the limits allow.
        KeysRepeatError
            At the end: keys repeat, and this pass did not know.
        """
        with KeySpool() as keys:
            for batch in arrival.batches:
                self.arrived += batch.num_rows
                self._refuse_too_many()
                good, hashed = self._split(batch)
                keys.add(hashed.keys if hashed.keys is not None else hashed.rows)
                self.digest.add(hashed)
                for watcher in self.watchers:
                    watcher.update(good, hashed)
                yield good
            self._take_broken(arrival)
            repeated = keys.repeated()
        known = self.repeated.hashes if self.repeated is not None else repeated[:0]
        if len(np.setdiff1d(repeated, known)):
            raise KeysRepeatError(np.union1d(repeated, known))
        self._refuse_whole()

    def collect(self, arrival: Arrival) -> RepeatedKeys:
        """Read everything and return the rows of the keys that may repeat."""
        assert self.repeated is not None
        for batch in arrival.batches:
            kept, reasons = self.enforcement.read(batch)
            hashed = hash_rows(kept, key=self.data.key)
            assert hashed.keys is not None
            texts = kept.column(self.data.key)
            for at in self.repeated.suspects(hashed.keys):
                if at not in reasons:
                    self.repeated.collect(str(texts[at].as_py()), int(hashed.rows[at]))
        return self.repeated

    @property
    def content(self) -> str:
        """The digest of everything that arrived, good and bad."""
        good = self.digest.hexdigest()
        if self.spool.rows == 0:
            return good
        return hashlib.sha256(f"{good}|{self.rejected.hexdigest()}".encode()).hexdigest()

    def _split(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, HashedRows]:
        kept, reasons = self.enforcement.read(batch)
        hashed = hash_rows(kept, key=self.data.key)
        if self.repeated is not None and hashed.keys is not None:
            texts = kept.column(self.data.key)
            for at in self.repeated.suspects(hashed.keys):
                reason = None if at in reasons else self.repeated.reason(str(texts[at].as_py()))
                if reason is not None:
                    reasons[at] = [f"{self.data.key}: {reason}"]
        if not reasons:
            return kept, hashed
        positions = sorted(reasons)
        bad = self.enforcement.as_arrived(batch, positions)
        self._reject(quarantined(bad, [reasons[at] for at in positions], key=self.data.key, stage="contract"))
        mask = np.ones(batch.num_rows, bool)
        mask[positions] = False
        good = kept.filter(pa.array(mask))
        return good, hash_rows(good, key=self.data.key)

    def _take_broken(self, arrival: Arrival) -> None:
        if arrival.broken:
            self.arrived += len(arrival.broken)
            masks = any(rule.mask for rule in self.enforcement.shape.rules)
            self._reject(broken(arrival.broken, withheld=masks))

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
        refuse_too_bad(self.spool, self.arrived, self.data.tolerance)


class Watcher(Protocol):
    """Something that wants to know of every good row: a profile, a sample."""

    def update(self, batch: pa.RecordBatch, hashed: HashedRows) -> None:
        """Take in the good rows of a batch and their hashes."""


def refuse_too_bad(spool: Spool, arrived: int, tolerance: float) -> None:
    """Refuse a partition of which more rows are bad than declared."""
    bad = spool.rows
    if bad > tolerance * arrived:
        raise PartitionRefusedError(
            f"{bad:,} of {arrived:,} rows are bad ({bad / arrived:.2%}); the declared tolerance is {tolerance:.2%}; "
            f"{spool.worst}; all of them are in quarantine"
        )
