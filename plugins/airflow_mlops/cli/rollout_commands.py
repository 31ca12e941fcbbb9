"""The command ``airflow-mlops rollout``: the status of a rollout, and the actions of a person on it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.loop_argument import add_command, add_json, print_answer, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.ledger.state_machine import OpenRollout
    from airflow_mlops.core.workspace import Workspace

WORDS = {
    "pause": "stop the rollout where it is; traffic stays, nothing goes on",
    "resume": "let a paused rollout go on",
    "skip": "let the stage that is open count as passed",
    "abort": "take the challenger back at once; its version is quarantined",
}


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "say where a rollout stands; pause, resume, skip, abort it; let a stage begin"
    actions = commands.add_parser("rollout", help=words, description=words).add_subparsers(
        required=True, metavar="ACTION"
    )
    words = "say where the rollout stands, who serves, and what is still needed"
    add_json(add_command(actions, "status", status, words))
    for action, description in WORDS.items():
        command = add_command(actions, action, act, description)
        command.add_argument("--reason", default="asked for by hand", metavar="WHY", help="for the ledger")
        command.set_defaults(action=action)
    command = add_command(actions, "approve", approve, "let a stage begin that waits for a person")
    command.add_argument("stage", metavar="STAGE", help="name of the stage, as canary_10")


def status(args: argparse.Namespace) -> None:
    """Print the status of the rollout."""
    workspace = workspace_of(args)
    state = workspace.state()
    values = {
        "champion": None if state.champion is None else state.champion.number,
        "rollout": None if state.rollout is None else rollout_values(workspace, state, state.rollout),
    }
    print_answer(args, values, status_lines(workspace, state))


def rollout_values(workspace: Workspace, state: LoopState, rollout: OpenRollout) -> dict[str, Any]:
    """Return where a rollout stands as JSON values: its version, its open stage, what comes next and why."""
    from airflow_mlops.core.rollout.next_transition import next_transition

    transition = next_transition(workspace.loop.rollout.stages, rollout, first=state.champion is None)
    return {
        "version": rollout.version.number,
        "kind": rollout.kind,
        "share": rollout.share,
        "stage": rollout.stage,
        "stages": [stage.name for stage in workspace.loop.rollout.stages],
        "next": transition.to,
        "reason": transition.reason,
        "paused": rollout.paused,
        "looks": [look.details.to_json() for look in rollout.looks],
    }


def status_lines(workspace: Workspace, state: LoopState) -> list[str]:
    """Return the status of a rollout as lines: a summary, then one for each stage."""
    from airflow_mlops.core.rollout.next_transition import next_transition
    from airflow_mlops.core.rollout.offline_and_online import offline_in_words

    served = "no version" if state.champion is None else f"version {state.champion.number}"
    if state.rollout is None:
        return [f"no rollout of {workspace.loop.model} is under way; {served} serves"]
    rollout, stages = state.rollout, workspace.loop.rollout.stages
    transition = next_transition(stages, rollout, first=state.champion is None)
    reason = f" ({transition.reason})" if transition.reason else ""
    # The stage that is open is named by its record: the declaration may have been changed since.
    step = (
        f"{rollout.kind}_{rollout.share}"
        if 0 <= transition.stage == rollout.stage
        else stages[max(transition.stage, 0)].name
    )
    lines = [
        f"version {rollout.version.number} beside {served} on {workspace.loop.rollout.target}; "
        f"next: {transition.to.replace('_', ' ')} {step}{reason}"
    ]
    for index, stage in enumerate(stages):
        is_open = index == rollout.stage
        passed = index < rollout.stage or (is_open and rollout.settled)
        progress = "passed" if passed else "open" if is_open else "to come"
        if is_open and rollout.looks:
            analysis = rollout.looks[-1].details
            progress += f", {len(rollout.looks)} looks, the last: {analysis.reason}"
            offline = offline_in_words(analysis.offline)
            progress += "" if offline is None else f"; {offline}"
        lines.append(f"  {stage.name:<14} {progress}")
    return lines


def act(args: argparse.Namespace) -> None:
    """Pause, resume, skip or abort the rollout, and print the result."""
    from airflow_mlops.core.rollout.control_rollout import control_rollout

    print(control_rollout(workspace_of(args), args.action, reason=args.reason))


def approve(args: argparse.Namespace) -> None:
    """Approve the start of a stage.

    Raises
    ------
    RolloutError
        If the rollout has no stage of that name.
    """
    from airflow_mlops.core.errors import RolloutError
    from airflow_mlops.core.rollout.approvals import PERSON
    from airflow_mlops.core.rollout.control_rollout import approve_stage

    workspace = workspace_of(args)
    names = [stage.name for stage in workspace.loop.rollout.stages]
    if args.stage not in names:
        raise RolloutError(f"there is no stage {args.stage!r}; stages: {', '.join(names)}")
    person = PERSON.search(workspace.actor)
    record = approve_stage(workspace, names.index(args.stage), (person[1] if person else workspace.actor,))
    print(
        f"{args.stage} of version {record.details.version} may begin (record {record.sequence}); "
        "a task of Airflow that waits for the same answer is answered there, or cleared"
    )
