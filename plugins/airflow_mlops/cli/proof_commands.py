"""The commands ``reproduce``, ``explain``, ``card`` and ``score``: proof about a version, or about a whole loop."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.asked_loop import add_command, workspace_of, writing

if TYPE_CHECKING:
    from airflow_mlops.cli.asked_loop import Commands, Run


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    words = "make a version again from its stored request, and compare what it predicts"
    again = _about_version(commands, "reproduce", reproduce, words)
    again.add_argument(
        "--tolerance", type=float, default=0.0, metavar="UNITS",
        help="largest difference of a prediction that counts as the same; 0, bit for bit, if not given",
    )  # fmt: skip
    words = "trace one row: as published, as the model saw it, what each feature did, what was served"
    told = _about_version(commands, "explain", explain, words)
    told.add_argument("--row", required=True, metavar="KEY", help="key of the row, as it stands in the source")
    told.add_argument("--partition", metavar="KEY", help="where to look; everywhere, newest first, if not given")
    card = _about_version(commands, "card", write_card, "the model card of a version, as of now")
    card.add_argument(
        "--to", type=Path, metavar="FILE", help="file to write: .md or .html; standard output if not given"
    )
    words = "the ML Test Score of a loop (28 points of Breck et al. 2017), with the evidence of each"
    add_command(commands, "score", score, words)


def _about_version(commands: Commands, name: str, run: Run, words: str) -> argparse.ArgumentParser:
    command = add_command(commands, name, run, words)
    command.add_argument("version", metavar="VERSION", help="number of the version")
    return command


def reproduce(asked: argparse.Namespace) -> None:
    """Make a version again, print the verdict, and fail where predictions differ beyond the tolerance."""
    from airflow_mlops.core.errors import ReproductionError
    from airflow_mlops.core.governance.reproduce_version import reproduce_version

    workspace = workspace_of(asked)
    found = reproduce_version(workspace, asked.version, tolerance=asked.tolerance)
    if found.verdict == "different":
        raise ReproductionError(f"{workspace.loop.model} version {found.version}: {found.reason}")
    file = "the model file is the same byte for byte" if found.same_file else "the model file differs"
    print(f"{workspace.loop.model} version {found.version}: {found.reason}; {file}")


def explain(asked: argparse.Namespace) -> None:
    """Print the trace of a row."""
    from airflow_mlops.core.declaration.partition_key import partition_key
    from airflow_mlops.core.governance.explain_row import explain_row

    partition = partition_key(asked.partition) if asked.partition else None
    found = explain_row(workspace_of(asked), asked.version, asked.row, partition)
    print(f"row {found.key} of {found.partition}, snapshot {found.snapshot[:12]}…")
    print(f"version {found.version}: {found.used_for}")
    print("as published")
    for name, value in found.row.items():
        print(f"  {name:<24} {value}")
    print(f"what each feature adds to {found.base:.6g}, the mean prediction of rows of the holdout")
    for one in found.contributions:
        print(f"  {one.feature:<24} {one.value!s:<24} {one.added:+.6g}")
    print(f"prediction                 {found.prediction!r}")
    if found.logged is None:
        print("served                     the partition was not scored, or the row was not in it")
    else:
        said = found.logged
        print(f"served                     {said['served_prediction']!r} by version {said['served_version']}")


def write_card(asked: argparse.Namespace) -> None:
    """Print or write the model card; it is kept as evidence where none is, or the one that is lacks other things."""
    from airflow_mlops.core.errors import DeclarationError
    from airflow_mlops.core.governance.model_card import write_model_card
    from airflow_mlops.core.report.page_html import as_html, as_markdown

    if asked.to is not None and asked.to.suffix not in (".md", ".html"):
        raise DeclarationError(f"the card can be written as .md or .html, not {asked.to.suffix or 'without ending'!r}")
    card = write_model_card(workspace_of(asked), asked.version)
    if asked.to is None:
        print(as_markdown(card))
        return
    with writing(asked.to):
        asked.to.write_text(as_html(card) if asked.to.suffix == ".html" else as_markdown(card), encoding="utf-8")
    print(f"{card.title}: {asked.to}" + (f"; it lacks {', '.join(card.missing)}" if card.missing else ""))


def score(asked: argparse.Namespace) -> None:
    """Print the score, section by section, with the evidence of each point and what is missing."""
    from airflow_mlops.core.governance.ml_test_score.ml_test_score import ml_test_score, shown

    for line in shown(ml_test_score(workspace_of(asked))):
        print(line)
