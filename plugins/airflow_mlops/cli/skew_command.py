"""The command ``airflow-mlops skew``: is a row the same to the model alone as it is among others?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow_mlops.cli.asked_loop import add_command, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.asked_loop import Commands


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "replay scored rows one by one and all together, and compare features, predictions and the log"
    command = add_command(commands, "skew", skew, words)
    command.add_argument("--partition", metavar="KEY", help="a scored partition; the newest one if not given")
    command.add_argument("--rows", type=positive, default=200, help="rows that go one by one (200)")


def positive(text: str) -> int:
    """Return a whole number of at least 1, as argparse asks."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} rows; at least 1 must go")
    return number


def skew(asked: argparse.Namespace) -> None:
    """Replay, and print what agreed; the first difference is an error with the column, the key and both values."""
    from airflow_mlops.core.declaration.partition_key import partition_key
    from airflow_mlops.core.watch.training_serving_skew import replay_rows, require_no_skew

    partition = partition_key(asked.partition) if asked.partition else None
    report = replay_rows(workspace_of(asked), partition, rows=asked.rows)
    require_no_skew(report)
    print(
        f"{report.partition}, version {report.version}: {report.features} features and the predictions of "
        f"{report.rows} rows are the same alone as together, and as logged"
    )
