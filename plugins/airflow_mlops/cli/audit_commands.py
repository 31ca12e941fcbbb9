"""The commands ``airflow-mlops audit verify | anchor | export``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.asked_loop import add_command, workspace_of, writing
from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow_mlops.cli.asked_loop import Commands


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    audit = commands.add_parser("audit", help="prove that the ledger is whole, or take it elsewhere")
    below = audit.add_subparsers(required=True, metavar="COMMAND")
    words = "recompute every hash, read every document of evidence, and compare with anchors"
    verified = add_command(below, "verify", verify, words)
    verified.add_argument("--anchors", type=Path, metavar="FILE", help="what audit anchor wrote: shows a cut-off end")
    words = "only records after the newest anchor; needs --anchors"
    verified.add_argument("--incremental", action="store_true", help=words)
    words = "write the head of the ledger where its writers cannot reach it"
    anchored = add_command(below, "anchor", anchor, words)
    anchored.add_argument("--to", type=Path, required=True, metavar="FILE", help="file that a line is added to")
    told = add_command(below, "export", export, "write every record as a line of JSON")
    told.add_argument("--to", type=Path, metavar="FILE", help="file to write; standard output if not given")
    told.add_argument("--evidence", action="store_true", help="with the documents that records rest on")


def verify(asked: argparse.Namespace) -> None:
    """Audit the ledger and say what was compared; the first thing wrong is an error."""
    from airflow_mlops.core.ledger.audit import audit_ledger, read_anchors

    if asked.incremental and asked.anchors is None:
        raise DeclarationError("audit verify --incremental starts from the newest anchor; name its file by --anchors")
    workspace = workspace_of(asked)
    anchors = read_anchors(asked.anchors, workspace.loop.model) if asked.anchors else []
    since = max(anchors, key=lambda anchor: anchor.sequence) if asked.incremental else None
    audit = audit_ledger(workspace.ledger, workspace.evidence, anchors, since=since)
    scope = "" if since is None else f" after record {since.sequence}"
    against = f", {audit.anchors} anchors hold" if anchors else "; records cut off at the end show against anchors only"
    print(
        f"{workspace.loop.model}: {audit.records} records{scope}, every hash holds; "
        f"{audit.evidence} documents of evidence are as they were{against}"
    )


def anchor(asked: argparse.Namespace) -> None:
    """Add the head of the ledger to a file."""
    from airflow_mlops.core.ledger.audit import append_anchor, head_anchor

    head = head_anchor(workspace_of(asked).ledger)
    with writing(asked.to):
        append_anchor(head, asked.to)
    print(f"{head.model}: record {head.sequence}, hash {head.hash}, anchored in {asked.to}")


def export(asked: argparse.Namespace) -> None:
    """Write the records, oldest first."""
    from airflow_mlops.core.ledger.audit import export_records

    workspace = workspace_of(asked)
    records = export_records(workspace.ledger, workspace.evidence if asked.evidence else None)
    lines = (json.dumps(values) + "\n" for values in records)
    if asked.to is None:
        sys.stdout.writelines(lines)
        return
    with writing(asked.to), asked.to.open("w", encoding="utf-8") as out:
        out.writelines(lines)
    print(f"{workspace.loop.model}: {workspace.ledger.head().sequence} records in {asked.to}")
