"""Reconcile the target with the ledger: change its traffic until it is the ledger's.

The record stands before the effect: this is called after each record that changes the traffic, and again by the watch,
in case a process died in between.
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
    """Return the traffic that the target must serve by the ledger.

    Until there is a champion nothing is served: a challenger needs a champion to be compared with.
    """
    rollout, champion = state.rollout, state.champion
    champion_number = None if champion is None else champion.number
    if rollout is not None and champion_number is not None and rollout.kind in KINDS:
        return Traffic(
            state.traffic_record,
            champion_number,
            rollout.version.number,
            KINDS[rollout.kind],
            rollout.share,
            rollout.salt,
        )
    return Traffic(state.traffic_record, champion_number, standby=_standby(loop, state))


def reconcile_target(workspace: Workspace) -> list[str]:
    """Make the target serve the traffic of the ledger; return the changes, a sentence each.

    The ledger is read again after each change until nothing differs, so that of two concurrent calls the later record
    wins.

    Raises
    ------
    TargetError
        If the target cannot be reached, or does not serve it; trying again may help.
    RolloutError
        If the target has traffic from a record that is not in this ledger, or cannot load a version.
    """
    target = workspace.target
    changes: list[str] = []
    sent = -1
    for _ in range(ATTEMPTS):
        state = workspace.state()
        wanted, observed = wanted_traffic(workspace.loop, state), _observe(target)
        if observed is not None and (_serves(observed, wanted) or _was_taken_out(observed, wanted)):
            return changes
        if observed is None and sent == wanted.order:
            raise TargetError(
                f"{target.name} was sent {describe_traffic(wanted)}, and its traffic cannot be read to confirm that"
            )
        sent = wanted.order
        try:
            _send_traffic(target, state, observed, wanted)
        except OlderTrafficError as error:
            if workspace.state().traffic_record > wanted.order:
                continue
            raise RolloutError(
                f"{target.name} refuses record {wanted.order}, the newest of this ledger: {error}; "
                "two ledgers may be at work on one target"
            ) from error
        except RegistryError as error:
            # A version's files are missing, not an alias: the target has not followed, so this must not count as done.
            kind = TargetError if error.retryable else RolloutError
            raise kind(f"{target.name} cannot be given {describe_traffic(wanted)}: {error}") from error
        changes.append(f"{target.name} served {describe_traffic(observed)}, now serves {describe_traffic(wanted)}")
    raise TargetError(
        f"{target.name} serves {describe_traffic(observed)} after {ATTEMPTS} attempts, not {describe_traffic(wanted)}"
    )


def describe_traffic(traffic: Traffic | None) -> str:
    """Return traffic in words; None stands for a target that could not be observed."""
    if traffic is None:
        return "something it could not name"
    if traffic.champion is None:
        return "nothing"
    words = f"version {traffic.champion}"
    if traffic.challenger is not None:
        words += f" with version {traffic.challenger} at {traffic.kind} {traffic.share:g} %"
    return words


def _observe(target: RolloutTarget) -> Traffic | None:
    """Return the traffic of the target; None, so that it is sent again, if it cannot be observed (replicas differ)."""
    try:
        return target.observe()
    except TargetError as error:
        LOG.warning("the traffic of %s cannot be read, and is sent again: %s", target.name, error)
        return None


def _serves(observed: Traffic, wanted: Traffic) -> bool:
    """Return whether a target serves the wanted traffic; with a challenger, also under the same record.

    Telemetry under an older record is not judged, so a stage would wait for ever.
    """
    return observed.serves_like(wanted) and (wanted.challenger is None or observed.order == wanted.order)


def _was_taken_out(observed: Traffic, wanted: Traffic) -> bool:
    """Return whether the target has taken the challenger out by itself; the next analysis acts on that."""
    return observed.order == wanted.order and observed.serves_like(replace(wanted, share=0.0))


def _send_traffic(target: RolloutTarget, state: LoopState, observed: Traffic | None, wanted: Traffic) -> None:
    served = wanted.champion if observed is None else observed.champion
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


def _standby(loop: Loop, state: LoopState) -> str | None:
    """Return the previous champion, if a declared standby stage keeps it warm for a rollback."""
    if not any(stage.kind == "standby" for stage in loop.rollout.stages):
        return None
    before = state.champions_before[:1]
    return before[0] if before and before[0] not in state.quarantined else None
