"""The commands ``reproduce``, ``explain``, ``card`` and ``ml-test-score``: proof about a version or a loop."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import (
    add_command,
    add_json,
    name_unwritable_file,
    partition_named,
    print_answer,
    workspace_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlops.cli.loop_argument import Commands, Run
    from airflow_mlops.core.governance.explain_row import ExplainedRow


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    words = "make a version again from its stored request, and compare what it predicts"
    command = _about_version(commands, "reproduce", reproduce, words)
    command.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="UNITS",
        help="largest difference of a prediction that counts as the same; 0, bit for bit, if not given",
    )
    add_json(command)
    words = "trace one row: as published, as the model saw it, what each feature did, what was served"
    command = _about_version(commands, "explain", explain, words)
    command.add_argument("--row", required=True, metavar="KEY", help="key of the row, as it stands in the source")
    command.add_argument("--partition", metavar="KEY", help="where to look; everywhere, newest first, if not given")
    add_json(command)
    command = _about_version(commands, "card", write_card, "the model card of a version, as of now")
    command.add_argument(
        "--to", type=Path, metavar="FILE", help="file to write: .md or .html; standard output if not given"
    )
    words = "the ML Test Score of a loop (28 points of Breck et al. 2017), with the evidence of each"
    add_json(add_command(commands, "ml-test-score", print_ml_test_score, words))


def _about_version(commands: Commands, name: str, run: Run, words: str) -> argparse.ArgumentParser:
    command = add_command(commands, name, run, words)
    command.add_argument("version", metavar="VERSION", help="number of the version")
    return command


def reproduce(args: argparse.Namespace) -> None:
    """Reproduce a version, print the verdict, and fail where predictions differ beyond the tolerance."""
    from airflow_mlops.core.errors import ReproductionError
    from airflow_mlops.core.governance.reproduce_version import reproduce_version

    workspace = workspace_of(args)
    result = reproduce_version(workspace, args.version, tolerance=args.tolerance)
    if result.verdict == "different":
        raise ReproductionError(f"{workspace.loop.model} version {result.version}: {result.reason}")
    file = "the model file is the same byte for byte" if result.same_file else "the model file differs"
    line = f"{workspace.loop.model} version {result.version}: {result.reason}; {file}"
    print_answer(args, result.to_dict(), [line])


def explain(args: argparse.Namespace) -> None:
    """Print the trace of a row."""
    from airflow_mlops.core.governance.explain_row import explain_row

    workspace = workspace_of(args)
    partition = partition_named(workspace, args.partition) if args.partition else None
    trace = explain_row(workspace, args.version, args.row, partition)
    print_answer(args, asdict(trace), lines_of_row(trace))


def lines_of_row(trace: ExplainedRow) -> Iterator[str]:
    """Yield the lines of a row's trace for a person."""
    yield f"row {trace.key} of {trace.partition}, snapshot {trace.snapshot[:12]}…"
    yield f"version {trace.version}: {trace.used_for}"
    yield "as published"
    yield from (f"  {name:<24} {value}" for name, value in trace.row.items())
    mean = "prediction" if trace.predicted_class is None else f"probability of {trace.predicted_class!r}"
    yield f"what each feature adds to {trace.base:.6g}, the mean {mean} of rows of the holdout"
    for contribution in trace.contributions:
        yield f"  {contribution.feature:<24} {contribution.value!s:<24} {contribution.added:+.6g}"
    if trace.predicted_class is None:
        yield f"prediction                 {trace.prediction!r}"
    else:
        yield f"prediction                 {trace.predicted_class!r}, with the probability {trace.prediction!r}"
    if trace.logged is None:
        yield "served                     the partition was not scored, or the row was not in it"
    else:
        logged = trace.logged
        yield f"served                     {logged['served_prediction']!r} by version {logged['served_version']}"


def write_card(args: argparse.Namespace) -> None:
    """Print or write the model card; it is kept as evidence where none is, or the one that is lacks other things."""
    from airflow_mlops.core.errors import DeclarationError
    from airflow_mlops.core.governance.model_card import write_model_card
    from airflow_mlops.core.report.page_html import as_html, as_markdown

    if args.to is not None and args.to.suffix not in (".md", ".html"):
        raise DeclarationError(f"the card can be written as .md or .html, not {args.to.suffix or 'without ending'!r}")
    card = write_model_card(workspace_of(args), args.version)
    if args.to is None:
        print(as_markdown(card))
        return
    with name_unwritable_file(args.to):
        args.to.write_text(as_html(card) if args.to.suffix == ".html" else as_markdown(card), encoding="utf-8")
    print(f"{card.title}: {args.to}" + (f"; it lacks {', '.join(card.missing)}" if card.missing else ""))


def print_ml_test_score(args: argparse.Namespace) -> None:
    """Print the score, section by section, with the evidence of each point and what is missing."""
    from airflow_mlops.core.governance.ml_test_score.ml_test_score import ml_test_score, score_lines

    score = ml_test_score(workspace_of(args))
    print_answer(args, {**asdict(score), "total": score.total}, score_lines(score))
