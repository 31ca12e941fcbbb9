"""The state machine of a rollout: a pure function from the state of a challenger to its next transition.

    waiting -> shadow, standby -> canary, ab, rolling, one share after another -> live (promoted)
    waiting -> live (promoted), where there is no champion that the stages could compare it with

    it has failed                        -> roll back, whatever else is true
    a person has paused it               -> hold; traffic stays where it is
    its stage is no longer declared      -> hold until the declaration has it again, or a person aborts
    the stage has not passed             -> look; an inconclusive analysis, or too little data, holds
    the next stage needs an approval     -> hold until a person approves it
    the stage has passed, or was skipped -> the next one, and live after the last

Nothing here reads a clock, a metric or a target: the ledger has the state. The same records give the same transition
on every retry, and it is appended only while the record that it was decided on is the newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from airflow_mlops.core.declaration.rollout import RolloutStage
from airflow_mlops.core.ledger.state_machine import OpenRollout


@dataclass(frozen=True)
class Transition:
    """A transition of a rollout: ``enter`` or ``look`` at a stage, ``promote``, ``hold`` or ``roll_back``, and why."""

    to: Literal["enter", "look", "promote", "hold", "roll_back"]
    stage: int
    reason: str = ""


def next_transition(stages: Sequence[RolloutStage], rollout: OpenRollout, *, first: bool = False) -> Transition:
    """Return the transition that is due.

    Parameters
    ----------
    stages : sequence of RolloutStage
        As declared; the last one is live.
    rollout : OpenRollout
        State of the rollout in the ledger.
    first : bool
        Whether there is no champion yet: it goes live at once, after every approval that a stage declares.

    >>> from airflow_mlops.core.ledger.state_machine import Version
    >>> stages = (RolloutStage(canary=10), RolloutStage(live=100))
    >>> rollout = OpenRollout(Version("2", "2013-01-27", {}), 7)
    >>> next_transition(stages, rollout).to, next_transition(stages, rollout, first=True).to
    ('enter', 'promote')
    """
    index = rollout.stage
    if rollout.failed is not None:
        return Transition("roll_back", index, rollout.failed)
    if rollout.paused is not None:
        return Transition("hold", index, f"paused: {rollout.paused}")
    if first:
        return _transition_of_first(stages, rollout)
    if index >= 0 and stage_as_declared(stages, rollout) is None:
        return Transition(
            "hold", index, f"the declaration has no {rollout.kind} {rollout.share} % as stage {index + 1} any more"
        )
    if index >= 0 and not rollout.settled:
        return Transition("look", index)
    next_index = index + 1
    stage = stages[next_index]
    if _waits_for_person(stages, rollout, next_index):
        return Transition("hold", next_index, f"{stage.name} waits for a person to let it begin")
    return Transition("promote" if stage.kind == "live" else "enter", next_index)


def _transition_of_first(stages: Sequence[RolloutStage], rollout: OpenRollout) -> Transition:
    """Return the transition of a version that has no champion to be compared with."""
    for index, stage in enumerate(stages):
        if _waits_for_person(stages, rollout, index):
            return Transition("hold", index, f"{stage.name} waits for a person to let it begin")
    return Transition("promote", len(stages) - 1)


def _waits_for_person(stages: Sequence[RolloutStage], rollout: OpenRollout, index: int) -> bool:
    return stages[index].approval == "human" and index > rollout.stage and index not in rollout.approved


def stage_as_declared(stages: Sequence[RolloutStage], rollout: OpenRollout) -> RolloutStage | None:
    """Return the declaration of the open stage; None if no stage is open, or the declaration was changed since."""
    stage = stages[rollout.stage] if 0 <= rollout.stage < len(stages) - 1 else None
    return stage if stage is not None and (stage.kind, stage.share) == (rollout.kind, rollout.share) else None
