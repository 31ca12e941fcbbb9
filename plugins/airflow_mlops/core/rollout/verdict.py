"""The verdict on a stage: a pure function of what was observed.

pass          the challenger is shown to be no worse than the margin
fail          it is shown to be worse than the margin, or it cannot predict
inconclusive  neither is shown; the stage holds and waits for more rows
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from airflow_mlops.core.evaluation.paired import PairedDifference


@dataclass(frozen=True)
class StageVerdict:
    """What a look at a stage said, with its numbers."""

    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str
    rows: int
    difference: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)


def judge_stage(difference: PairedDifference, *, margin: float, min_rows: int) -> StageVerdict:
    """Return the verdict on a challenger.

    Parameters
    ----------
    difference : PairedDifference
        Challenger less champion, on the same labelled rows, with its 95 % interval.
    margin : float
        Share of the champion's loss by which a challenger may be worse.
    min_rows : int
        Rows below which nothing is concluded.
    """
    seen, limit = difference, margin * difference.champion
    numbers = (
        f"loss {seen.mean:+.4g} [{seen.low:+.4g}, {seen.high:+.4g}] against the champion's {seen.champion:.4g} "
        f"on {seen.rows:,} rows; allowed {limit:+.4g}"
    )
    if seen.rows < min_rows:
        reason = f"{seen.rows:,} labelled rows, {min_rows:,} are needed to say"
        return StageVerdict("inconclusive", reason, seen.rows)
    if seen.high <= limit:
        return StageVerdict("pass", f"no worse: {numbers}", seen.rows, seen.to_dict())
    if seen.low > limit:
        return StageVerdict("fail", f"worse: {numbers}", seen.rows, seen.to_dict())
    return StageVerdict("inconclusive", f"cannot tell: {numbers}", seen.rows, seen.to_dict())
