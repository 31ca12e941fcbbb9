"""The command ``airflow-mlops skew``: is a row the same to the model alone as it is among others?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "replay scored rows one by one and all together, and compare features, predictions and the log"
    command = commands.add_parser("skew", help=words, description=words)
    command.add_argument("loop", type=Path, metavar="LOOP", help="YAML declaration, or Dag file")
    command.add_argument("--root", type=Path, default=Path(), help="project folder that relative paths start from")
    command.add_argument("--partition", metavar="KEY", help="a scored partition; the newest one if not given")
    command.add_argument("--rows", type=positive, default=200, help="rows that go one by one (200)")
    command.set_defaults(run=skew)


def positive(text: str) -> int:
    """Return a whole number of at least 1, as argparse asks."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} rows; at least 1 must go")
    return number


def skew(asked: argparse.Namespace) -> None:
    """Replay, and print what agreed; the first difference is an error with the column, the key and both values."""
    from airflow_mlops.cli import workspace_of
    from airflow_mlops.core.data.partition import partition_key
    from airflow_mlops.core.watch.training_serving_skew import replay_rows, require_no_skew

    partition = partition_key(asked.partition) if asked.partition else None
    report = replay_rows(workspace_of(asked), partition, rows=asked.rows)
    require_no_skew(report)
    print(
        f"{report.partition}, version {report.version}: {report.features} features and the predictions of "
        f"{report.rows} rows are the same alone as together, and as logged"
    )
