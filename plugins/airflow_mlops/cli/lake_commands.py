"""The commands of ``airflow-mlops`` about stored data: quarantine, erasure, retention.

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
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.loop_argument import add_command, add_json, partition_named, print_answer, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands

SHOWN = 20


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    quarantine = commands.add_parser("quarantine", help="look at bad rows, and release them after a fix")
    subcommands = quarantine.add_subparsers(required=True, metavar="COMMAND")
    add_json(add_command(subcommands, "list", list_quarantine, "list the partitions with bad rows, and the reasons"))
    show = add_command(subcommands, "show", show_rows, "show the bad rows of a partition")
    show.add_argument("--partition", required=True, metavar="KEY", help="key of the partition")
    show.add_argument("--rows", type=int, default=SHOWN, help=f"how many rows; {SHOWN} if not given")
    show.add_argument("--json", action="store_true", help="one JSON object a line, all rows")
    words = "judge bad rows again, by the contract and suite of today, and take the good ones into their partition"
    release = add_command(subcommands, "release", release_rows, words)
    release.add_argument("--partition", required=True, metavar="KEY", help="key of the partition")
    release.add_argument("--key", action="append", metavar="ROW", help="only the row with this key; can be repeated")
    release.add_argument("--accept", metavar="WHY", help="release rows that the suite still finds bad, for this reason")
    add_json(release)
    forget = add_command(commands, "forget", forget_key, "erase a subject from snapshots, predictions and quarantine")
    forget.add_argument(
        "--key",
        required=True,
        metavar="KEY",
        help="the subject, as it stands in the source; a key of several columns as 1017+2",
    )
    add_json(forget)
    words = "expire partitions beyond their retention, delete files that nothing needs"
    tidy_command = add_command(commands, "tidy", tidy, words)
    tidy_command.add_argument(
        "--after-hours",
        type=int,
        default=24,
        metavar="HOURS",
        help="leave what became needless less long ago (24): an ingest may be under way; 0 where none is",
    )
    add_json(tidy_command)


def list_quarantine(args: argparse.Namespace) -> None:
    """Print a line for each partition with bad rows: how many, and why."""
    from airflow_mlops.core.data.quarantined_rows import rule_name
    from airflow_mlops.core.validation.release_quarantine import read_quarantine

    workspace = workspace_of(args)
    state = workspace.state()
    values, lines = {}, []
    for partition in workspace.quarantine.partitions():
        rows = read_quarantine(workspace, partition)
        rules = Counter(rule_name(reason) for text in rows.column("reasons").to_pylist() for reason in json.loads(text))
        where = "refused" if partition in state.refused else "published"
        reasons = ", ".join(f"{rule} ({count:,})" for rule, count in rules.most_common(3))
        lines.append(f"{partition}  {rows.num_rows:>7,} rows  {where:<9}  {reasons}")
        values[partition] = {"rows": rows.num_rows, "partition": where, "rules": dict(rules)}
    print_answer(args, values, lines or ["no row is in quarantine"])


def show_rows(args: argparse.Namespace) -> None:
    """Print the bad rows of a partition with their reasons."""
    from airflow_mlops.core.validation.release_quarantine import read_quarantine

    workspace = workspace_of(args)
    all_rows = read_quarantine(workspace, partition_named(workspace, args.partition))
    rows = all_rows if args.json else all_rows.slice(0, args.rows)
    for row in rows.to_pylist():
        printed: dict[str, Any] = {**row, "reasons": json.loads(row["reasons"]), "row": json.loads(row["row"])}
        if args.json:
            print(json.dumps(printed, ensure_ascii=False))
        else:
            print(f"{printed['key'] or printed['at'] or '(no key)'}: {'; '.join(printed['reasons'])}")
            print(f"    {json.dumps(printed['row'], ensure_ascii=False)}")
    if rows.num_rows < all_rows.num_rows:
        print(f"… and {all_rows.num_rows - rows.num_rows:,} more; --rows or --json shows them")


def release_rows(args: argparse.Namespace) -> None:
    """Validate quarantined rows again, publish those that pass, and print the numbers."""
    from airflow_mlops.core.validation.gx_validator import GxValidator
    from airflow_mlops.core.validation.release_quarantine import release_quarantine

    workspace = workspace_of(args)
    partition = partition_named(workspace, args.partition)
    result = release_quarantine(workspace, partition, GxValidator(), keys=args.key, accept=args.accept)
    lines = [f"{partition}: {result.released:,} rows released, {result.kept:,} stay in quarantine"]
    reasons = sorted(result.reasons.items(), key=lambda pair: -pair[1])
    lines += [f"    {reason} ({count:,})" for reason, count in reasons[:SHOWN]]
    if result.record is not None:
        lines.append(f"published anew as record {result.record}; the next score run scores it again")
    if result.outdated:
        lines.append(f"versions made from what stood there before: {', '.join(result.outdated)}")
    print_answer(args, {"model": workspace.loop.model, "partition": partition, **asdict(result)}, lines)


def forget_key(args: argparse.Namespace) -> None:
    """Erase a subject from snapshots, predictions and quarantine, and print how many rows that were."""
    from airflow_mlops.core.data.forget_subject import forget_subject

    workspace = workspace_of(args)
    result = forget_subject(workspace, args.key)
    erased = (
        f"erased {result.snapshots:,} rows of snapshots, {result.predictions:,} of predictions, "
        f"{result.quarantine:,} of quarantine, in {len(result.partitions)} partitions; {result.files} files deleted"
    )
    versions = sorted(result.models)
    seen = (
        f"versions that had seen them: {', '.join(versions)}" if versions else "no version of the model had seen them"
    )
    # The subject is in none of this: what a program keeps of the answer must not undo the erasure.
    values = {"model": workspace.loop.model, **asdict(result), "models": versions}
    print_answer(args, values, [erased, seen])


def tidy(args: argparse.Namespace) -> None:
    """Expire partitions beyond their retention, delete unneeded files, and print the numbers by table."""
    from airflow_mlops.core.data.apply_retention import apply_retention

    workspace = workspace_of(args)
    result = apply_retention(workspace, after_hours=args.after_hours)
    lines = [
        f"{table:<12} {len(result.expired.get(table, [])):>5} partitions expired, {files:>5} files deleted"
        for table, files in result.files.items()
    ]
    print_answer(args, {"model": workspace.loop.model, **asdict(result)}, lines)
