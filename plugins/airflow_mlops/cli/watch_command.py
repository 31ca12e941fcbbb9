"""The command ``airflow-mlops watch``: what a loop decides, as it decides it."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.loop_argument import add_command, workspace_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlops.cli.loop_argument import Commands
    from airflow_mlops.core.ledger.protocols import Ledger
    from airflow_mlops.core.ledger.record import Record

EARLIER = 10
"""Decisions from before that are printed first."""


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "print what a loop decides, as it decides it, until you stop it (Ctrl-C)"
    command = add_command(commands, "watch", watch, words)
    command.add_argument("--all", action="store_true", help="also the facts of every partition")
    command.add_argument("--json", action="store_true", help="one line of JSON for each record, for programs")
    command.add_argument("--every", type=positive, default=2.0, metavar="SECONDS", help="between two looks (2)")
    command.add_argument("--for", type=positive, dest="seconds", metavar="SECONDS", help="stop after so long")


def positive(text: str) -> float:
    """Return a number of seconds above zero.

    Raises
    ------
    ValueError
        If it is none; argparse says so.
    """
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def watch(args: argparse.Namespace) -> None:
    """Print where the loop stands, its newest decisions, and then each new one as it is recorded."""
    from airflow_mlops.core.overview.model_summary import summarise_model

    ledger = workspace_of(args).ledger
    if not args.json:
        summary = summarise_model(ledger)
        print(f"{summary.model}: {summary.state}: {summary.reason}", flush=True)
    try:
        for record in new_records(ledger, every=args.every, seconds=args.seconds, facts=args.all):
            print(as_line(record, as_json=args.json), flush=True)
    except KeyboardInterrupt:
        return


def new_records(ledger: Ledger, *, every: float, seconds: float | None, facts: bool) -> Iterator[Record[Any]]:
    """Yield the newest decisions, oldest first, and then each record as it is appended.

    Parameters
    ----------
    every : float
        Seconds between two looks at the head of the ledger.
    seconds : float, optional
        When to stop; never if not given.
    facts : bool
        Whether records count that decide nothing.
    """
    from itertools import islice

    from airflow_mlops.core.overview.sentences import is_decision

    started, head = time.monotonic(), ledger.head().sequence
    wanted = (record for record in ledger.records(newest_first=True) if facts or is_decision(record))
    yield from [*islice(wanted, EARLIER)][::-1]
    while seconds is None or time.monotonic() - started < seconds:
        time.sleep(every)
        if ledger.head().sequence > head:
            for record in ledger.records(after=head):
                head = record.sequence
                if facts or is_decision(record):
                    yield record


def as_line(record: Record[Any], *, as_json: bool) -> str:
    """Return a record as a line, for a person or for a program."""
    from airflow_mlops.core.overview.sentences import describe_record

    if as_json:
        return json.dumps({**record.to_json(), "sentence": describe_record(record)})
    place = record.partition or "-"
    return f"{record.sequence:>6}  {record.recorded_at[:19]}  {place:<19}  {describe_record(record)}  [{record.actor}]"
