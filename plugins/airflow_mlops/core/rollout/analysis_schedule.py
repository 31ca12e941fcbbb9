"""The schedule of a stage's interim analyses (looks): a pure function of those so far and of how much data is in."""

from __future__ import annotations

from airflow_mlops.core.declaration.rollout import Rollout, RolloutStage
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.rollout.analysis.judge_metric import Look


def planned_looks(declared: Rollout, stage: RolloutStage) -> int:
    """Return the planned number of interim analyses of a stage; an A/B test is decided once, at its end."""
    return 1 if stage.kind == "ab" else declared.looks


def planned_sample(declared: Rollout, stage: RolloutStage, rollout: OpenRollout, rows: int) -> int:
    """Return the rows or requests that the analyses of a stage are planned on.

    Where no ``sample`` is declared, it is ``min_rows`` for each analysis on live traffic; on batch, as many partitions
    of the size of the first as there are analyses.
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
    """Return the next interim analysis; None if there is no more data than at the previous one.

    A stage that bakes reaches its full sample no sooner than it has baked, however many rows come before: otherwise an
    analysis would be the last one, and could not pass yet.

    Parameters
    ----------
    rows : int
        Rows or requests of the challenger that are in.
    metrics : int
        Number of metrics that judge the stage.
    baked : float
        Share of the time the stage has to bake that has passed.
    """
    taken = [look.details.information for look in rollout.looks if look.details.look]
    planned = planned_looks(declared, stage)
    share = min(1.0, rows / planned_sample(declared, stage, rollout, rows), baked)
    if len(taken) >= planned or (taken and share <= taken[-1]):
        return None
    return Look(len(taken) + 1, (*taken, share), planned, declared.alpha, metrics)
