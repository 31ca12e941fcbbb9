"""Which of a stage's planned looks is due: a pure function of the looks so far and of how much is in."""

from __future__ import annotations

from airflow_mlops.core.declaration.rollout import Rollout, RolloutStage
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.rollout.analysis.judge_metric import Look


def planned_looks(declared: Rollout, stage: RolloutStage) -> int:
    """Return how many looks a stage is planned with; an A/B test is decided once, at its end."""
    return 1 if stage.kind == "ab" else declared.looks


def planned_sample(declared: Rollout, stage: RolloutStage, rollout: OpenRollout, rows: int) -> int:
    """Return how many rows or requests a stage's looks are planned on.

    Where none are declared: where requests are answered, ``min_rows`` for each look; on batch, as many partitions of
    the size of the first as there are looks.
    """
    if stage.sample is not None:
        return stage.sample
    planned = planned_looks(declared, stage)
    if declared.is_live:
        return declared.min_rows * planned
    first = next((look.details.rows for look in rollout.looks if look.details.look), rows)
    return first * planned


def next_analysis(
    declared: Rollout, stage: RolloutStage, rollout: OpenRollout, rows: int, *, metrics: int, baked: float = 1.0
) -> Look | None:
    """Return the look that ``rows`` allow; None where they are no more than at the look before.

    A stage that bakes has all that was planned no sooner than it has baked, however many rows come before: otherwise
    a look would be the last one, and could not pass yet.

    Parameters
    ----------
    rows : int
        Rows or requests of the challenger that are in.
    metrics : int
        By how many metrics the stage is judged.
    baked : float
        Share of the time the stage has to bake that has passed.
    """
    taken = [look.details.information for look in rollout.looks if look.details.look]
    planned = planned_looks(declared, stage)
    share = min(1.0, rows / planned_sample(declared, stage, rollout, rows), baked)
    if len(taken) >= planned or (taken and share <= taken[-1]):
        return None
    return Look(len(taken) + 1, (*taken, share), planned, declared.alpha, metrics)
