"""``airflow-mlops doctor``: look at everything that loops need around them, and name the command that mends."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import declared_loops
from airflow_mlops.core.errors import MlopsError

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.doctor.diagnosis import Finding

LIBRARIES = (
    "airflow.plugins_manager",
    "airflow.settings",
    "airflow.utils.session",
    "airflow_mlops.core.ledger.sql_ledger",
    "airflow_mlops.hooks.workspace",
    "airflow_mlops.ui.airflow_facts",
    "httpx",
    "packaging.requirements",
)
"""What the checks import: done before them, so that their limits of time are those of answers."""
READ_SECONDS = 60.0
"""Seconds that the declarations of a project, which are code of the user's too, may take to be read."""


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "look at what loops need: versions, stores, servers, Airflow; nothing is changed"
    command = commands.add_parser("doctor", help=words, description=f"{words}. Exit code 1 if anything is wrong.")
    command.add_argument("--root", type=Path, default=Path(), help="project folder")
    command.add_argument("--json", action="store_true", help="a line of JSON for each finding, for programs")
    command.set_defaults(run=doctor)


def doctor(args: argparse.Namespace) -> None:
    """Print every finding.

    Raises
    ------
    MlopsError
        At the end, if anything is wrong.
    """
    findings = examine(args.root.resolve())
    for finding in findings:
        print(json.dumps(asdict(finding)) if args.json else line_of(finding), flush=True)
    wrong = sum(finding.level == "wrong" for finding in findings)
    if wrong:
        raise MlopsError(f"{wrong} of {len(findings)} findings are wrong")


def line_of(finding: Finding) -> str:
    """Return a finding as a line, with a second one for the command that mends it."""
    line = f"{finding.level:<8} {finding.check:<12} {finding.seen}"
    return f"{line}\n{'':<22}-> {finding.remedy}" if finding.remedy else line


def examine(root: Path) -> list[Finding]:
    """Return the findings of every check about a project folder."""
    from airflow_mlops.doctor.checks import CHECKS
    from airflow_mlops.doctor.diagnosis import Check, Surroundings, diagnose

    for name in LIBRARIES:
        importlib.import_module(name)
    declared: list[tuple[dict[str, Loop], list[str]]] = []

    def read(_surroundings: Surroundings) -> Iterator[Finding]:
        declared.append(declared_loops(root))
        return iter(())

    unread = diagnose([Check("loops", read, seconds=READ_SECONDS)], Surroundings(root, {}))
    loops, broken = declared[0] if declared else ({}, [])
    return [*unread, *diagnose(CHECKS, Surroundings(root, loops, tuple(broken)))]
