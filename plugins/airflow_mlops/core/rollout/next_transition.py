"""The rollout: a pure function from where a challenger stands to what happens to it next.

    waiting -> shadow, standby -> canary, ab, rolling, one share after another -> live (promoted)

    it has failed                        -> roll back, whatever else is true
    a person has paused it               -> hold; traffic stays where it is
    its stage is declared no longer      -> hold, until a person says what is meant
    the stage has not passed             -> look; an inconclusive look, or too little data, holds
    the next stage asks for a person     -> hold until one lets it begin
    the stage has passed, or was skipped -> the next one, and live after the last

Nothing here reads a clock, a metric or a target: the ledger says where the challenger stands. The same records give
the same transition on every retry, and whoever makes it states the record it was decided on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from airflow_mlops.core.declaration.rollout import RolloutStage
from airflow_mlops.core.ledger.state_machine import OpenRollout


@dataclass(frozen=True)
class Transition:
    """What happens next: ``enter`` or ``look`` at a stage, ``promote``, ``hold`` or ``roll_back``, and why."""

    to: Literal["enter", "look", "promote", "hold", "roll_back"]
    stage: int
    reason: str = ""


def next_transition(stages: Sequence[RolloutStage], rollout: OpenRollout) -> Transition:
    """Return the transition that is due.

    Parameters
    ----------
    stages : sequence of RolloutStage
        As declared; the last one is live.
    rollout : OpenRollout
        Where the challenger stands, by the ledger.

    >>> from airflow_mlops.core.ledger.state_machine import Version
    >>> stages = (RolloutStage(canary=10), RolloutStage(live=100))
    >>> next_transition(stages, OpenRollout(Version("2", "2013-01-27", {}), 7)).to
    'enter'
    """
    now = rollout.stage
    if rollout.failed is not None:
        return Transition("roll_back", now, rollout.failed)
    if rollout.paused is not None:
        return Transition("hold", now, f"paused: {rollout.paused}")
    if now >= 0 and stage_as_declared(stages, rollout) is None:
        return Transition(
            "hold", now, f"the declaration has no {rollout.kind} {rollout.share} % as stage {now + 1} any more"
        )
    if now >= 0 and not rollout.settled:
        return Transition("look", now)
    following = now + 1
    stage = stages[following]
    if stage.approval == "human" and following not in rollout.approved:
        return Transition("hold", following, f"{stage.name} waits for a person to let it begin")
    return Transition("promote" if stage.kind == "live" else "enter", following)


def stage_as_declared(stages: Sequence[RolloutStage], rollout: OpenRollout) -> RolloutStage | None:
    """Return what is declared of the stage that is open; None where none is, or the declaration was changed since."""
    stage = stages[rollout.stage] if 0 <= rollout.stage < len(stages) - 1 else None
    return stage if stage is not None and (stage.kind, stage.share) == (rollout.kind, rollout.share) else None
