"""The commands ``airflow-mlops audit verify | anchor | export``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import add_command, add_json, name_unwritable_file, print_answer, workspace_of
from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    parser = commands.add_parser("audit", help="prove that the ledger is whole, or take it elsewhere")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    words = "recompute every hash, read every document of evidence, and compare with anchors"
    command = add_command(subcommands, "verify", verify, words)
    command.add_argument("--anchors", type=Path, metavar="FILE", help="what audit anchor wrote: shows a cut-off end")
    words = "only records after the newest anchor; needs --anchors"
    command.add_argument("--incremental", action="store_true", help=words)
    add_json(command)
    words = "write the head of the ledger where its writers cannot reach it"
    command = add_command(subcommands, "anchor", anchor, words)
    command.add_argument("--to", type=Path, required=True, metavar="FILE", help="file that a line is added to")
    command = add_command(subcommands, "export", export, "write every record as a line of JSON")
    command.add_argument("--to", type=Path, metavar="FILE", help="file to write; standard output if not given")
    command.add_argument("--evidence", action="store_true", help="with the documents that records rest on")


def verify(args: argparse.Namespace) -> None:
    """Audit the ledger and print what was compared.

    Raises
    ------
    LedgerError
        At the first thing that is wrong.
    """
    from airflow_mlops.core.ledger.audit import audit_ledger, read_anchors

    if args.incremental and args.anchors is None:
        raise DeclarationError("audit verify --incremental starts from the newest anchor; name its file by --anchors")
    workspace = workspace_of(args)
    anchors = read_anchors(args.anchors, workspace.loop.model) if args.anchors else []
    since = max(anchors, key=lambda anchor: anchor.sequence) if args.incremental else None
    audit = audit_ledger(workspace.ledger, workspace.evidence, anchors, since=since)
    scope = "" if since is None else f" after record {since.sequence}"
    coverage = (
        f", {audit.anchors} anchors hold" if anchors else "; records cut off at the end show against anchors only"
    )
    line = (
        f"{workspace.loop.model}: {audit.records} records{scope}, every hash holds; "
        f"{audit.evidence} documents of evidence are as they were{coverage}"
    )
    values = {"model": workspace.loop.model, "since": None if since is None else since.sequence, **asdict(audit)}
    print_answer(args, values, [line])


def anchor(args: argparse.Namespace) -> None:
    """Add the head of the ledger to a file."""
    from airflow_mlops.core.ledger.audit import append_anchor, head_anchor

    head = head_anchor(workspace_of(args).ledger)
    with name_unwritable_file(args.to):
        append_anchor(head, args.to)
    print(f"{head.model}: record {head.sequence}, hash {head.hash}, anchored in {args.to}")


def export(args: argparse.Namespace) -> None:
    """Write the records of the ledger as lines of JSON, oldest first."""
    from airflow_mlops.core.ledger.audit import export_records

    workspace = workspace_of(args)
    records = export_records(workspace.ledger, workspace.evidence if args.evidence else None)
    lines = (json.dumps(values) + "\n" for values in records)
    if args.to is None:
        sys.stdout.writelines(lines)
        return
    with name_unwritable_file(args.to), args.to.open("w", encoding="utf-8") as out:
        out.writelines(lines)
    print(f"{workspace.loop.model}: {workspace.ledger.head().sequence} records in {args.to}")
