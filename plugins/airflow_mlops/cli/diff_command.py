"""The command ``airflow-mlops diff``: what this project declares otherwise than another state of it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import declared_loops
from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "what the loops of this project declare otherwise than those of another state of it"
    command = commands.add_parser("diff", help=words, description=words)
    command.add_argument("before", type=Path, metavar="FOLDER", help="the other state, such as a git worktree of it")
    command.add_argument("--root", type=Path, default=Path(), help="project folder")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="a table in Markdown, as for a comment on a change")
    form.add_argument("--json", action="store_true", help="one line of JSON for each field, for programs")
    command.set_defaults(run=diff)


def diff(args: argparse.Namespace) -> None:
    """Print each declared field that differs.

    Raises
    ------
    DeclarationError
        If the other folder holds no project; or, at the end, if a declaration of this project cannot be read.
    """
    from airflow_mlops.core.declaration.declaration_changes import declaration_changes, describe_changes

    if not (args.before / "include").is_dir():
        raise DeclarationError("holds no include/; name the folder of a project", file=str(args.before))
    before, broken_before = declared_loops(args.before)
    after, broken = declared_loops(args.root)
    for problem in broken_before:
        print(f"not compared, as it could not be read before: {problem}", file=sys.stderr)
    changes = declaration_changes(before, after)
    if args.json:
        print("".join(f"{json.dumps(asdict(change))}\n" for change in changes), end="")
    else:
        print("\n".join(describe_changes(changes, markdown=args.markdown)))
    if broken:
        raise DeclarationError("cannot be read: " + "; ".join(broken))
