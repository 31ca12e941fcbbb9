"""The verdict on a stage, from the verdicts of its metrics: a pure function.

pass          every metric is shown to be no worse than its margin
fail          one is shown to be worse than its margin, the challenger cannot predict, or the last planned look
              has left the stage undecided
inconclusive  neither; the stage holds and waits for more
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_mlops.core.ledger.rollout_details import StageAnalysed
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook


@dataclass(frozen=True)
class StageVerdict:
    """What was said about a stage, with its numbers.

    ``look`` is the number of the planned look that it is, from 1; 0 where none was taken, since there was too little
    to look at, or none was needed. ``information`` is the share of the planned sample that was in, and ``rows`` how
    many rows or requests of the challenger that are. ``since`` is the first partition that the stage is judged on.
    """

    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str
    rows: int
    look: int = 0
    information: float = 0.0
    since: str | None = None
    metrics: tuple[dict[str, Any], ...] = ()
    offline: dict[str, Any] | None = field(default=None)

    def details(self, rollout: OpenRollout, name: str) -> StageAnalysed:
        """Return the record of this verdict on the open step of a rollout, which the declaration calls ``name``."""
        return StageAnalysed(
            version=rollout.version.number,
            rollout=rollout.record,
            stage=rollout.stage,
            name=name,
            verdict=self.verdict,
            reason=self.reason,
            rows=self.rows,
            look=self.look,
            information=self.information,
            since=self.since,
            metrics=self.metrics,
            offline=self.offline,
        )


def too_little(reason: str, rows: int, since: str | None = None) -> StageVerdict:
    """Return that there is not enough to look at: the stage holds, and no look is used up."""
    return StageVerdict("inconclusive", reason, rows, since=since)


def stage_verdict(
    looks: Sequence[MetricLook], look: Look, *, rows: int, since: str | None = None,
    offline: dict[str, Any] | None = None, bakes: str | None = None,
) -> StageVerdict:  # fmt: skip
    """Return the verdict on a stage.

    Parameters
    ----------
    looks : sequence of MetricLook
        One for each metric, at least one.
    look : Look
        Which of the planned looks this is.
    rows : int
        Rows or requests of the challenger.
    since : str, optional
        First partition that was looked at.
    offline : dict, optional
        The difference that the gate expected, beside the one observed.
    bakes : str, optional
        What the stage still waits for, in words: a pass has to wait, too.
    """
    failed = [each for each in looks if each.verdict == "fail"]
    open_ = [each for each in looks if each.verdict == "inconclusive"]
    shown = failed or open_ or looks
    reason = "; ".join(each.reason for each in shown)
    said: Literal["pass", "fail", "inconclusive"] = "fail" if failed else "inconclusive" if open_ else "pass"
    if said == "pass" and bakes is not None:
        said, reason = "inconclusive", f"{reason}; {bakes}"
    elif said == "inconclusive" and look.is_last:
        said, reason = "fail", f"undecided at the last look, {look.number} of {look.planned}: {reason}"
    return StageVerdict(
        said, reason, rows, look.number, look.shares[-1], since, tuple(each.to_dict() for each in looks), offline
    )
