"""The verdict on a stage, from the verdicts of its metrics: a pure function.

pass          every metric is shown to be no worse than its margin
fail          one is shown to be worse than its margin, the challenger cannot predict, or the last planned analysis
              has left the stage undecided
inconclusive  neither; the stage holds and waits for more data
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
    """The verdict of an analysis of a stage, with its numbers.

    ``look`` is the number of the planned analysis, from 1; 0 if there was too little data for one, or none was needed.
    ``information`` is the share of the planned sample that was in, and ``rows`` the rows or requests of the
    challenger. ``since`` is the first partition that the stage is judged on.
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


def insufficient_data(reason: str, rows: int, since: str | None = None) -> StageVerdict:
    """Return an inconclusive verdict for too little data; it uses up no planned analysis."""
    return StageVerdict("inconclusive", reason, rows, since=since)


def stage_verdict(
    looks: Sequence[MetricLook],
    look: Look,
    *,
    rows: int,
    since: str | None = None,
    offline: dict[str, Any] | None = None,
    remaining_bake: str | None = None,
) -> StageVerdict:
    """Return the verdict on a stage.

    Parameters
    ----------
    looks : sequence of MetricLook
        One for each metric, at least one.
    look : Look
        The planned analysis.
    rows : int
        Rows or requests of the challenger.
    since : str, optional
        First partition that was analysed.
    offline : dict, optional
        The difference that the gate expected, beside the one observed.
    remaining_bake : str, optional
        How long the stage still has to bake, in words; a pass has to wait for it.
    """
    failed = [result for result in looks if result.verdict == "fail"]
    undecided = [result for result in looks if result.verdict == "inconclusive"]
    decisive = failed or undecided or looks
    reason = "; ".join(result.reason for result in decisive)
    verdict: Literal["pass", "fail", "inconclusive"] = "fail" if failed else "inconclusive" if undecided else "pass"
    if verdict == "pass" and remaining_bake is not None:
        verdict, reason = "inconclusive", f"{reason}; {remaining_bake}"
    elif verdict == "inconclusive" and look.is_last:
        verdict, reason = "fail", f"undecided at the last look, {look.number} of {look.planned}: {reason}"
    return StageVerdict(
        verdict, reason, rows, look.number, look.shares[-1], since, tuple(result.to_dict() for result in looks), offline
    )
