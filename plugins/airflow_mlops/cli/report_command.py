"""The command ``airflow-mlops report``: the page about a scored partition."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import add_command, name_unwritable_file, partition_named, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "draw the page about a scored partition: verdicts, numbers, validation, the decision"
    command = add_command(commands, "report", report, words)
    command.add_argument("--partition", metavar="KEY", help="a scored partition; the newest one if not given")
    command.add_argument(
        "--engine",
        choices=("own", "evidently"),
        default="own",
        help="whose page: ours, or Evidently's of the inputs, which needs the extra 'evidently' (own)",
    )
    command.add_argument("--into", type=Path, metavar="FILE", help="HTML file to write as well")


def report(args: argparse.Namespace) -> None:
    """Draw the page, store it as evidence, and print its location."""
    from airflow_mlops.core.errors import NotReadyError
    from airflow_mlops.core.report.kept_reports import keep_report, load_page

    workspace = workspace_of(args)
    partition = partition_named(workspace, args.partition) if args.partition else workspace.state().scored.newest()
    if partition is None:
        raise NotReadyError("no partition is scored yet")
    digest = keep_report(workspace, partition, f"{getpass.getuser()} asked for it", engine=args.engine)
    print(f"{workspace.loop.model}, partition {partition}: kept as {workspace.evidence.location(digest)}")
    if args.into is not None:
        with name_unwritable_file(args.into):
            args.into.write_text(load_page(workspace.evidence, digest), encoding="utf-8")
        print(f"written: {args.into}")
