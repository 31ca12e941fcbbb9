"""The command ``airflow-mlops skew``: compare scored rows replayed one by one and all together."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import add_command, add_json, partition_named, print_answer, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "replay scored rows one by one and all together, and compare features, predictions and the log"
    command = add_command(commands, "skew", skew, words)
    command.add_argument("--partition", metavar="KEY", help="a scored partition; the newest one if not given")
    command.add_argument("--rows", type=positive, default=200, help="rows that go one by one (200)")
    add_json(command)


def positive(text: str) -> int:
    """Parse a whole number of at least 1, for argparse.

    Raises
    ------
    ArgumentTypeError
        If the number is below 1.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} rows; at least 1 must go")
    return number


def skew(args: argparse.Namespace) -> None:
    """Replay scored rows and print the numbers compared; the first difference is an error that names the cell."""
    from airflow_mlops.core.watch.training_serving_skew import replay_rows, require_no_skew

    workspace = workspace_of(args)
    partition = partition_named(workspace, args.partition) if args.partition else None
    report = replay_rows(workspace, partition, rows=args.rows)
    require_no_skew(report)
    line = (
        f"{report.partition}, version {report.version}: {report.features} features and the predictions of "
        f"{report.rows} rows are the same alone as together, and as logged"
    )
    print_answer(args, report.to_dict(), [line])
