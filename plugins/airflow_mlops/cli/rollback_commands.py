"""The commands ``airflow-mlops rollback`` and ``lift``: a person takes a version back, or lets it serve again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow_mlops.cli.asked_loop import add_command, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.asked_loop import Commands


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    words = "take back the rollout under way or, where there is none, the champion; needs no registry"
    back = add_command(commands, "rollback", rollback, words)
    back.add_argument("--to", metavar="VERSION", help="version that shall serve; the champion before if not given")
    back.add_argument("--reason", default="asked for by hand", metavar="WHY", help="for the ledger")
    words = "let a version that was taken back or rejected serve again"
    lifted = add_command(commands, "lift", lift, words)
    lifted.add_argument("version", metavar="VERSION", help="number of the version")
    lifted.add_argument("--reason", required=True, metavar="WHY", help="for the ledger")


def rollback(asked: argparse.Namespace) -> None:
    """Roll back, and say who serves now."""
    from airflow_mlops.core.rollout.manual_rollback import roll_back_now

    workspace = workspace_of(asked)
    done = roll_back_now(workspace, reason=asked.reason, to=asked.to)
    when = "" if workspace.loop.rollout.is_live else " from the next partition on"
    serves = f"version {done.champion} serves{when}" if done.champion else "nothing serves"
    print(f"version {done.version} was taken back and is in quarantine; {serves}")
    for note in done.notes:
        print(note)


def lift(asked: argparse.Namespace) -> None:
    """Lift a quarantine."""
    from airflow_mlops.core.rollout.manual_rollback import lift_quarantine

    workspace = workspace_of(asked)
    lift_quarantine(workspace, asked.version, reason=asked.reason)
    served = workspace.state().was_champion(asked.version)
    back = f"airflow-mlops rollback {workspace.loop.model} --to {asked.version} lets it serve"
    print(f"version {asked.version} is out of quarantine; {back if served else 'it waits for its rollout again'}")
