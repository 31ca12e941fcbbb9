"""The commands of ``airflow-mlops`` that concern what is kept: quarantine, forgetting, tidying.

airflow-mlops quarantine list LOOP      partitions with bad rows, and the reasons
airflow-mlops quarantine show LOOP      the bad rows of a partition
airflow-mlops quarantine release LOOP   judge them again and take the good ones in
airflow-mlops forget LOOP --key KEY     erase a subject from snapshots, predictions and quarantine
airflow-mlops tidy LOOP                 expire old partitions, delete files that nothing needs
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.asked_loop import add_command, workspace_of
from airflow_mlops.core.declaration.partition_key import partition_key

if TYPE_CHECKING:
    from airflow_mlops.cli.asked_loop import Commands

SHOWN = 20


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    quarantine = commands.add_parser("quarantine", help="look at bad rows, and release them after a fix")
    below = quarantine.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "list", list_quarantine, "list the partitions with bad rows, and the reasons")
    show = add_command(below, "show", show_rows, "show the bad rows of a partition")
    show.add_argument("--partition", required=True, metavar="KEY", help="key of the partition")
    show.add_argument("--rows", type=int, default=SHOWN, help=f"how many rows; {SHOWN} if not given")
    show.add_argument("--json", action="store_true", help="one JSON object a line, all rows")
    words = "judge bad rows again, by the contract and suite of today, and take the good ones into their partition"
    release = add_command(below, "release", release_rows, words)
    release.add_argument("--partition", required=True, metavar="KEY", help="key of the partition")
    release.add_argument("--key", action="append", metavar="ROW", help="only the row with this key; can be repeated")
    release.add_argument("--accept", metavar="WHY", help="release rows that the suite still finds bad, for this reason")
    forget = add_command(commands, "forget", forget_key, "erase a subject from snapshots, predictions and quarantine")
    forget.add_argument("--key", required=True, metavar="KEY", help="the subject, as it stands in the source")
    words = "expire partitions beyond their retention, delete files that nothing needs"
    told = add_command(commands, "tidy", tidy, words)
    told.add_argument(
        "--after-hours", type=int, default=24, metavar="HOURS",
        help="leave what became needless less long ago (24): an ingest may be under way; 0 where none is",
    )  # fmt: skip


def list_quarantine(asked: argparse.Namespace) -> None:
    """Print a line for each partition with bad rows: how many, and why."""
    from airflow_mlops.core.data.quarantined_rows import rule_name
    from airflow_mlops.core.validation.release_quarantine import held_rows

    workspace = workspace_of(asked)
    state = workspace.state()
    partitions = workspace.quarantine.partitions()
    for partition in partitions:
        held = held_rows(workspace, partition)
        rules = Counter(rule_name(why) for text in held.column("reasons").to_pylist() for why in json.loads(text))
        where = "refused" if partition in state.refused else "published"
        reasons = ", ".join(f"{rule} ({count:,})" for rule, count in rules.most_common(3))
        print(f"{partition}  {held.num_rows:>7,} rows  {where:<9}  {reasons}")
    if not partitions:
        print("no row is in quarantine")


def show_rows(asked: argparse.Namespace) -> None:
    """Print the bad rows of a partition with their reasons."""
    from airflow_mlops.core.validation.release_quarantine import held_rows

    held = held_rows(workspace_of(asked), partition_key(asked.partition))
    rows = held if asked.json else held.slice(0, asked.rows)
    for row in rows.to_pylist():
        told: dict[str, Any] = {**row, "reasons": json.loads(row["reasons"]), "row": json.loads(row["row"])}
        if asked.json:
            print(json.dumps(told, ensure_ascii=False))
        else:
            print(f"{told['key'] or told['at'] or '(no key)'}: {'; '.join(told['reasons'])}")
            print(f"    {json.dumps(told['row'], ensure_ascii=False)}")
    if rows.num_rows < held.num_rows:
        print(f"… and {held.num_rows - rows.num_rows:,} more; --rows or --json shows them")


def release_rows(asked: argparse.Namespace) -> None:
    """Judge bad rows again and take the good ones in."""
    from airflow_mlops.core.validation.gx_validator import GxValidator
    from airflow_mlops.core.validation.release_quarantine import release_quarantine

    workspace = workspace_of(asked)
    partition = partition_key(asked.partition)
    done = release_quarantine(workspace, partition, GxValidator(), keys=asked.key, accept=asked.accept)
    print(f"{partition}: {done.released:,} rows released, {done.kept:,} stay in quarantine")
    for reason, count in sorted(done.reasons.items(), key=lambda pair: -pair[1])[:SHOWN]:
        print(f"    {reason} ({count:,})")
    if done.record is not None:
        print(f"published anew as record {done.record}; the next score run scores it again")
    if done.outdated:
        print(f"versions made from what stood there before: {', '.join(done.outdated)}")


def forget_key(asked: argparse.Namespace) -> None:
    """Erase a subject."""
    from airflow_mlops.core.data.forget_subject import forget_subject

    done = forget_subject(workspace_of(asked), asked.key)
    print(
        f"erased {done.snapshots:,} rows of snapshots, {done.predictions:,} of predictions, {done.quarantine:,} of "
        f"quarantine, in {len(done.partitions)} partitions; {done.files} files deleted"
    )
    models = ", ".join(sorted(done.models))
    print(f"versions that had seen them: {models}" if models else "no version of the model had seen them")


def tidy(asked: argparse.Namespace) -> None:
    """Expire and delete."""
    from airflow_mlops.core.data.apply_retention import tidy_lake

    done = tidy_lake(workspace_of(asked), after_hours=asked.after_hours)
    for table, files in done.files.items():
        gone = done.expired.get(table, [])
        print(f"{table:<12} {len(gone):>5} partitions expired, {files:>5} files deleted")
