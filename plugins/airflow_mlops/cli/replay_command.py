"""The command ``airflow-mlops replay``: compare retrain policies on a loop's history."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import (
    add_command,
    add_json,
    loop_of,
    name_unwritable_file,
    print_answer,
    workspace_of,
)
from airflow_mlops.core.replay.policy_names import KNOWN, POLICIES

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.replay.replay_report import ReplayReport
    from airflow_mlops.core.workspace import Workspace


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "replay retrain policies over the loop's history, and suggest one"
    command = add_command(commands, "replay", replay, words)
    command.add_argument(
        "--policies",
        default=POLICIES,
        metavar="LIST",
        help=f"with commas between: {KNOWN} ({POLICIES})",
    )
    command.add_argument(
        "--window", metavar="N|all", help="train on another window than the declared one, or on several, as 4,13,all"
    )
    command.add_argument("--until", metavar="KEY", help="key of the last partition; the newest by default")
    command.add_argument("--split", metavar="KEY", help="choose a policy up to this key, judge it after; the middle")
    command.add_argument("--from-source", action="store_true", help="read the source, whatever the lake holds")
    command.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="fits at once (all cores)")
    command.add_argument("--into", type=Path, metavar="DIR", help="folder of replay.json and replay.png")
    add_json(command)


def replay(args: argparse.Namespace) -> None:
    """Fit the history once, replay the policies, print the table, and write the figures and the picture."""
    from airflow_mlops.core.replay.compare_policies import policy_of
    from airflow_mlops.core.replay.recorded_replay import replay_history
    from airflow_mlops.core.replay.replay_picture import draw_replay
    from airflow_mlops.core.replay.replay_request import replay_request

    request = replay_request(args.policies, window=args.window or "", until=args.until or "", split=args.split or "")
    loop = request.loop(loop_of(args))
    for name in request.policies:
        policy_of(loop, name)  # a wrong name fails before a history is read from the source, not after
    into = args.into or args.root / "build" / "replay" / loop.model
    with name_unwritable_file(into):
        into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="replay-lake-") as folder:
        workspace = workspace_with_history(args, loop, Path(folder), until=request.until)
        report = replay_history(workspace, request, processes=max(1, args.processes), progress=print_progress)
    with name_unwritable_file(into / "replay.json"):
        (into / "replay.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    draw_replay(report, into / "replay.png")
    values = {**report.to_dict(), "written": [str(into / f"replay.{end}") for end in ("json", "png")]}
    written = f"written: replay.json and replay.png in {into}"
    print_answer(args, values, [*replay_lines(loop, report), written])


def replay_lines(loop: Loop, report: ReplayReport) -> Iterator[str]:
    """Yield the lines of a replay for a person: the tables, the suggestion, and what was not replayed."""
    from airflow_mlops.core.replay.replay_report import describe_replay, table

    first, split_at = report.partitions[report.first][:10], report.partitions[report.split][:10]
    yield f"{loop.model}, {report.metric}, seed {report.seed}, window {', '.join(map(str, loop.train.windows))}"
    yield from [f"\nfrom {first} to {report.partitions[-1][:10]}", *table(report.whole, report.metric)]
    yield from [f"\nfrom {split_at}; a suggestion was chosen before", *table(report.later, report.metric)]
    if report.windows is not None:
        yield from [f"\nbenefit by window and policy, from {first}", *report.windows.lines()]
    yield f"\nsuggested: {report.advice}"
    yield from describe_replay(report)


def workspace_with_history(args: argparse.Namespace, loop: Loop, folder: Path, *, until: str | None) -> Workspace:
    """Return the loop's own workspace if it has published partitions; else a new one filled from the source."""
    from dataclasses import replace

    from airflow_mlops.core.open_workspace import Stores, open_workspace

    own = replace(workspace_of(args, new=True), loop=loop)
    if not args.from_source and own.state().published:
        return own
    from airflow_mlops.core.replay.take_history import take_history
    from airflow_mlops.core.validation.gx_validator import GxValidator

    stores = replace(Stores.embedded(folder), secret=own.secret, connections=own.connections)
    workspace = open_workspace(loop, stores, root=own.root, actor=own.actor)
    last = until or time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    take_history(workspace, GxValidator(), until=last, progress=progress_printer("take"))
    return workspace


def progress_printer(action: str) -> Callable[[int, int, str], None]:
    """Return a progress callback that prints how many units of ``action`` are done."""

    def print_count(done: int, total: int, name: str) -> None:
        print_progress(f"{action} {done}/{total}: {name}")

    return print_count


def print_progress(line: str) -> None:
    """Print a line of progress on standard error; standard output is for the table."""
    print(line, file=sys.stderr, flush=True)
