"""Some rows of a quarantine for a person to look at: by reason, within limits, without values that are personal."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from airflow_mlops.core.data.quarantined_rows import is_broken, rule_name

BATCH_ROWS = 1_000
ROWS_READ, SECONDS = 20_000, 2.0
"""Rows after which, and time after which no more are read."""
REASONS, ROWS_OF_REASON, FIELDS, LONGEST, CHARACTERS = 8, 3, 30, 60, 12_000
"""Reasons that are shown, rows of each, fields of a row, characters of a value, and of all values together."""
WITHHELD = "(withheld)"
BROKEN = "cannot be split into columns"


@dataclass(frozen=True)
class SampleRow:
    """A bad row: its fields as text, None for null; ``at`` is the place of a broken row in the source."""

    fields: tuple[tuple[str, str | None], ...]
    at: str | None = None
    left_out: int = 0


@dataclass
class ReasonSample:
    """The rows against which a reason stands: how many of those read, and some of them."""

    reason: str
    rows: int
    sample: list[SampleRow] = field(default_factory=list)


@dataclass(frozen=True)
class QuarantineSample:
    """Rows of a quarantine by reason, the most frequent first.

    ``read`` is how many rows were read, and ``complete`` whether those were all; ``others`` counts the reasons that
    are left out.
    """

    reasons: tuple[ReasonSample, ...]
    read: int
    complete: bool
    others: int


def sample_quarantine(
    batches: Iterable[pa.RecordBatch],
    personal: Collection[str] | None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> QuarantineSample:
    """Return some rows of a quarantine by reason, from its first ``ROWS_READ`` rows or what is read in ``SECONDS``.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        Rows in the schema of the quarantine.
    personal : collection of str, optional
        Columns whose values are withheld; every value is, where it is not known which.
    clock : callable
        Returns seconds.
    """
    counts: Counter[str] = Counter()
    kept: dict[str, list[SampleRow]] = {}
    read, budget, complete, deadline = 0, CHARACTERS, True, clock() + SECONDS
    for part in _parts(batches):
        if read >= ROWS_READ or (read and clock() > deadline):
            complete = False
            break
        read += part.num_rows
        for row in part.select(["reasons", "row", "at"]).to_pylist():
            values: dict[str, str | None] = json.loads(row["row"])
            for reason in dict.fromkeys(_public_reason(text, values, personal) for text in json.loads(row["reasons"])):
                counts[reason] += 1
                rows = kept.setdefault(reason, []) if reason in kept or len(kept) < 4 * REASONS else None
                if rows is not None and len(rows) < ROWS_OF_REASON and budget > 0:
                    rows.append(_sample_row(values, row["at"], reason, personal))
                    budget -= sum(len(name) + len(value or "") for name, value in rows[-1].fields)
    shown = counts.most_common(REASONS)
    reasons = tuple(ReasonSample(reason, count, kept.get(reason, [])) for reason, count in shown)
    return QuarantineSample(reasons, read, complete, len(counts) - len(reasons))


def _parts(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def _public_reason(reason: str, row: dict[str, str | None], personal: Collection[str] | None) -> str:
    """Return a reason without a value, so that rows of one rule are together and nothing personal is told."""
    rule = rule_name(reason)
    if personal is not None and not personal:
        return rule
    if is_broken(row):
        return BROKEN
    column, _, rest = rule.partition(": ")
    secret = personal is None or column in personal
    return f"{column}: breaks a rule" if secret and not rest.startswith(("is ", "lies ", "expect_")) else rule


def _sample_row(
    values: dict[str, str | None], at: str | None, reason: str, personal: Collection[str] | None
) -> SampleRow:
    """Return a row as it is shown: the column that the reason is about comes first."""
    about = reason.partition(": ")[0]
    names = sorted(values, key=lambda name: name != about)
    withheld = set(names) if personal is None else ({""} if personal else set()) | set(personal)
    fields = tuple((name[:LONGEST], _shown(values[name], withheld=name in withheld)) for name in names[:FIELDS])
    return SampleRow(fields, at, max(len(names) - FIELDS, 0))


def _shown(value: str | None, *, withheld: bool) -> str | None:
    if value is None:
        return None
    if withheld:
        return WITHHELD
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
