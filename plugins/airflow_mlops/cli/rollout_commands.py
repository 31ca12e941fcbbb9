"""The command ``airflow-mlops rollout``: where a rollout stands, and what a person may do to it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow_mlops.cli.asked_loop import add_command, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.asked_loop import Commands
    from airflow_mlops.core.ledger.state import LoopState
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
    add_command(actions, "status", status, "say where the rollout stands, who serves, and what is still needed")
    for action, meaning in WORDS.items():
        command = add_command(actions, action, act, meaning)
        command.add_argument("--reason", default="asked for by hand", metavar="WHY", help="for the ledger")
        command.set_defaults(action=action)
    command = add_command(actions, "approve", approve, "let a stage begin that waits for a person")
    command.add_argument("stage", metavar="STAGE", help="name of the stage, as canary_10")


def status(asked: argparse.Namespace) -> None:
    """Print where the rollout stands."""
    workspace = workspace_of(asked)
    for line in standing(workspace, workspace.state()):
        print(line)


def standing(workspace: Workspace, state: LoopState) -> list[str]:
    """Return where a rollout stands, a line for each stage."""
    from airflow_mlops.core.rollout.next_transition import next_transition
    from airflow_mlops.core.rollout.offline_and_online import offline_in_words

    served = "no version" if state.champion is None else f"version {state.champion.number}"
    if state.rollout is None:
        return [f"no rollout of {workspace.loop.model} is under way; {served} serves"]
    rollout, stages = state.rollout, workspace.loop.rollout.stages
    transition = next_transition(stages, rollout)
    why = f" ({transition.reason})" if transition.reason else ""
    # The stage that is open is named by its record: the declaration may have been changed since.
    is_open = 0 <= transition.stage == rollout.stage
    at = f"{rollout.kind}_{rollout.share}" if is_open else stages[max(transition.stage, 0)].name
    lines = [
        f"version {rollout.version.number} beside {served} on {workspace.loop.rollout.target}; "
        f"next: {transition.to.replace('_', ' ')} {at}{why}"
    ]
    for index, stage in enumerate(stages):
        here = index == rollout.stage
        passed = index < rollout.stage or (here and rollout.settled)
        said = "passed" if passed else "open" if here else "to come"
        if here and rollout.looks:
            last = rollout.looks[-1].details
            said += f", {len(rollout.looks)} looks, the last: {last.reason}"
            offline = offline_in_words(last.offline)
            said += "" if offline is None else f"; {offline}"
        lines.append(f"  {stage.name:<14} {said}")
    return lines


def act(asked: argparse.Namespace) -> None:
    """Do what was asked for, and say what was done."""
    from airflow_mlops.core.rollout.control_rollout import control_rollout

    print(control_rollout(workspace_of(asked), asked.action, reason=asked.reason))


def approve(asked: argparse.Namespace) -> None:
    """Let a stage begin."""
    from airflow_mlops.core.errors import RolloutError
    from airflow_mlops.core.rollout.approvals import PERSON
    from airflow_mlops.core.rollout.control_rollout import approve_stage

    workspace = workspace_of(asked)
    names = [stage.name for stage in workspace.loop.rollout.stages]
    if asked.stage not in names:
        raise RolloutError(f"there is no stage {asked.stage!r}; stages: {', '.join(names)}")
    person = PERSON.search(workspace.actor)
    record = approve_stage(workspace, names.index(asked.stage), (person[1] if person else workspace.actor,))
    print(
        f"{asked.stage} of version {record.details.version} may begin (record {record.sequence}); "
        "a task of Airflow that waits for the same answer is answered there, or cleared"
    )
