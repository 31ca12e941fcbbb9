"""The command ``airflow-mlops try``: one partition through a loop, of which nothing is kept."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import redirect_stdout
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import add_command, loop_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlops.cli.loop_argument import Commands
    from airflow_mlops.core.dry_run.try_partition import PartitionTrial


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "take one partition through contract, suite, checks and features, and keep nothing of it"
    command = add_command(commands, "try", try_loop, words)
    command.add_argument("--partition", metavar="KEY", help="key of the partition; the newest one if not given")
    command.add_argument("--fit", action="store_true", help="also fit, save and judge the candidates on its rows")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def try_loop(args: argparse.Namespace) -> None:
    """Try a declaration on one partition and print what would be published, quarantined and given to the model."""
    # Libraries log on standard output; there, only the result is wanted.
    with redirect_stdout(sys.stderr):
        trial = run_trial(args)
    print(json.dumps(trial.to_dict(), indent=2) if args.json else "\n".join(lines_of(trial)))


def run_trial(args: argparse.Namespace) -> PartitionTrial:
    """Check the declaration and take a partition through it."""
    from airflow_mlops.core.check_declaration import check_declaration
    from airflow_mlops.core.dry_run.try_partition import try_partition
    from airflow_mlops.hooks.connections import AirflowConnections
    from airflow_mlops.hooks.workspace import WorkspaceHook

    loop, root = loop_of(args), args.root.resolve()
    check_declaration(loop, root, file=str(args.loop))
    return try_partition(
        loop,
        root=root,
        connections=AirflowConnections(),
        secret=WorkspaceHook().secret(),
        now=datetime.fromtimestamp(time.time(), UTC).replace(tzinfo=None).isoformat(),
        partition=args.partition,
        fit=args.fit,
        progress=progress_line(),
    )


def progress_line() -> Callable[[str], None]:
    """Return a function that shows a step on standard error: a line that replaces the last one on a terminal."""

    def show(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text} …", end="", file=sys.stderr, flush=True)
        else:
            print(f"{text} …", file=sys.stderr, flush=True)

    return show


def lines_of(trial: PartitionTrial) -> list[str]:
    """Return a trial as lines for a person."""
    lines = [f"partition    {trial.partition or 'none'}", f"rows in      {trial.rows_in:,}"]
    if trial.refused is not None:
        lines.append(f"refused      {trial.refused}")
    lines += [f"published    {trial.published:,}", f"quarantined  {trial.quarantined:,}"]
    lines += [f"  {count:>10,}  {rule}" for rule, count in trial.reasons.items()]
    lines += [f"  {row}" for row in trial.bad_rows]
    lines += [f"warning      {warning}" for warning in trial.warnings]
    lines += [f"rollout      {wait}" for wait in trial.waits]
    if trial.features:
        lines.append(f"features     {len(trial.features)}")
        lines += [f"  {name:<24} {kind}" for name, kind in trial.features.items()]
    if trial.feature_rows is not None and len(trial.feature_rows):
        lines += ["", trial.feature_rows.to_string(max_cols=12, max_colwidth=20), ""]
    for name, candidate in trial.fit.items():
        lines.append(f"candidate    {name}: {'can be kept' if candidate.kept else 'cannot be kept'}")
        if candidate.error is not None:
            lines.append(f"  {candidate.error}")
        lines += [f"  {metric:<24} {value:.6g}" for metric, value in candidate.metrics.items()]
        lines += [f"  gate {gate}" for gate in candidate.gates]
    return lines
