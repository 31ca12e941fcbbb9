"""Make the target serve what the ledger says, and make sure that it does.

The record stands before the effect. So whoever has written one calls this, and whoever finds that it was not called,
as the watch does, calls it again.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import RegistryError, RolloutError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ports.rollout_target import Kind, OlderTrafficError, RolloutTarget, TargetError, Traffic
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import ATTEMPTS

LOG = logging.getLogger(__name__)
KINDS: dict[str, Kind] = {kind: kind for kind in ("shadow", "standby", "canary", "ab", "rolling")}


def wanted_traffic(loop: Loop, state: LoopState) -> Traffic:
    """Return what must be served by what the ledger says.

    Until there is a champion nothing is served: a challenger beside nobody has nobody to be compared with.
    """
    rollout, champion = state.rollout, state.champion
    served = None if champion is None else champion.number
    if rollout is not None and served is not None and rollout.kind in KINDS:
        return Traffic(
            state.traffic_record, served, rollout.version.number, KINDS[rollout.kind], rollout.share, rollout.salt
        )  # fmt: skip
    return Traffic(state.traffic_record, served, standby=_kept_warm(loop, state))


def reconcile_target(workspace: Workspace) -> list[str]:
    """Let the target serve what the ledger says; return what had to be changed, a sentence each.

    The ledger is read again after each change until nothing differs, so that of two that do it at once the later
    record wins.

    Raises
    ------
    TargetError
        If the target cannot be reached, or does not do it; trying again may help.
    RolloutError
        If it has been told something that this ledger does not hold, or a version cannot be given to it.
    """
    target = workspace.target
    changes: list[str] = []
    told = -1
    for _ in range(ATTEMPTS):
        state = workspace.state()
        wanted, found = wanted_traffic(workspace.loop, state), _found(target)
        if found is not None and (_does(found, wanted) or _was_taken_out(found, wanted)):
            return changes
        if found is None and told == wanted.order:
            raise TargetError(f"{target.name} was told to serve {in_words(wanted)}, and cannot say that it does")
        told = wanted.order
        try:
            _serve(target, state, found, wanted)
        except OlderTrafficError as error:
            if workspace.state().traffic_record > wanted.order:
                continue
            raise RolloutError(
                f"{target.name} was told what this ledger does not hold (record {wanted.order}): {error}; "
                "two ledgers may be at work on one target"
            ) from error
        except RegistryError as error:
            # No alias but a version's files: who serves has not followed, and nobody may take that for done.
            kind = TargetError if error.retryable else RolloutError
            raise kind(f"{target.name} cannot be given {in_words(wanted)}: {error}") from error
        changes.append(f"{target.name} served {in_words(found)}, now serves {in_words(wanted)}")
    raise TargetError(f"{target.name} serves {in_words(found)} after {ATTEMPTS} attempts, not {in_words(wanted)}")


def in_words(traffic: Traffic | None) -> str:
    """Return who serves, in words; None is what the target cannot say."""
    if traffic is None:
        return "something it could not name"
    if traffic.champion is None:
        return "nothing"
    words = f"version {traffic.champion}"
    if traffic.challenger is not None:
        words += f" with version {traffic.challenger} at {traffic.kind} {traffic.share:g} %"
    return words


def _found(target: RolloutTarget) -> Traffic | None:
    """Return what the target serves; None where it cannot say, as replicas that differ: telling it puts that right."""
    try:
        return target.observe()
    except TargetError as error:
        LOG.warning("%s cannot say what it serves, and is told again: %s", target.name, error)
        return None


def _does(found: Traffic, wanted: Traffic) -> bool:
    """Whether a target serves what is wanted; a challenger by the record of its own rollout, and by no older one.

    What was seen of an older one is not judged, so that a stage would wait for ever.
    """
    return found.serves_like(wanted) and (wanted.challenger is None or found.order == wanted.order)


def _was_taken_out(found: Traffic, wanted: Traffic) -> bool:
    """Whether the target itself has taken the challenger out, which the next look finds and acts on."""
    return found.order == wanted.order and found.serves_like(replace(wanted, share=0.0))


def _serve(target: RolloutTarget, state: LoopState, found: Traffic | None, wanted: Traffic) -> None:
    served = wanted.champion if found is None else found.champion
    if wanted.challenger is None and wanted.champion is not None and served == wanted.champion:
        # The quickest way back: what serves is loaded, and nothing else is needed.
        target.rollback(wanted)
    elif wanted.champion is not None:
        # Before the standby: who was the champion a moment ago may have to serve this very moment.
        for number in filter(None, (wanted.champion, wanted.challenger)):
            target.prepare(state.versions[number])
        target.apply(wanted)
    else:
        target.apply(wanted)
    target.finalize(wanted)


def _kept_warm(loop: Loop, state: LoopState) -> str | None:
    """Return the champion before, where the declared strategy switches back to it at once."""
    if not any(stage.kind == "standby" for stage in loop.rollout.stages):
        return None
    before = state.champions_before[:1]
    return before[0] if before and before[0] not in state.quarantined else None
