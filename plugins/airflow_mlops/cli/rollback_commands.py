"""The commands ``airflow-mlops rollback`` and ``unquarantine``: take a version back, or let it serve again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import add_command, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    words = "take back the rollout under way or, where there is none, the champion; needs no registry"
    command = add_command(commands, "rollback", rollback, words)
    command.add_argument("--to", metavar="VERSION", help="version that shall serve; the champion before if not given")
    command.add_argument("--reason", default="asked for by hand", metavar="WHY", help="for the ledger")
    words = "let a version that was taken back or rejected serve again"
    command = add_command(commands, "unquarantine", unquarantine, words)
    command.add_argument("version", metavar="VERSION", help="number of the version")
    command.add_argument("--reason", required=True, metavar="WHY", help="for the ledger")


def rollback(args: argparse.Namespace) -> None:
    """Roll back, and print the version that serves now."""
    from airflow_mlops.core.rollout.manual_rollback import roll_back_now

    workspace = workspace_of(args)
    result = roll_back_now(workspace, reason=args.reason, to=args.to)
    when = "" if workspace.loop.rollout.is_live else " from the next partition on"
    serves = f"version {result.champion} serves{when}" if result.champion else "nothing serves"
    print(f"version {result.version} was taken back and is in quarantine; {serves}")
    for note in result.notes:
        print(note)


def unquarantine(args: argparse.Namespace) -> None:
    """Take a version out of quarantine, so that it can serve again."""
    from airflow_mlops.core.rollout.manual_rollback import unquarantine_version

    workspace = workspace_of(args)
    unquarantine_version(workspace, args.version, reason=args.reason)
    served = workspace.state().was_champion(args.version)
    back = f"airflow-mlops rollback {workspace.loop.model} --to {args.version} lets it serve"
    print(f"version {args.version} is out of quarantine; {back if served else 'it waits for its rollout again'}")
