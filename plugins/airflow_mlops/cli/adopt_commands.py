"""The commands ``airflow-mlops export`` and ``adopt``: take a version from one environment to another."""

from __future__ import annotations

import argparse
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import add_command, add_json, name_unwritable_file, print_answer, workspace_of

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    words = "write a version with its proofs as one signed file, so that another environment can adopt it"
    command = add_command(commands, "export", export, words)
    command.add_argument("version", metavar="VERSION", help="number of the version")
    command.add_argument(
        "--into", type=Path, required=True, metavar="PATH", help="file to write, or folder for MODEL-VERSION.zip"
    )
    command.add_argument(
        "--environment",
        default=platform.node(),
        metavar="NAME",
        help="what the other environment calls this one; the name of this machine if not given",
    )
    command.add_argument(
        "--with-example", action="store_true", help="let the few rows go with it that MLflow shows as an example"
    )
    add_json(command)
    words = "make a version that another environment exported a candidate here, without training it again"
    command = add_command(commands, "adopt", adopt, words)
    command.add_argument(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="PATH",
        help="file that export wrote, or folder with one of the model",
    )
    command.add_argument(
        "--unjudged",
        action="store_true",
        help="rely on the evaluation there, where no rows here have labels to judge it on",
    )
    add_json(command)


def export(args: argparse.Namespace) -> None:
    """Write the archive, and print its path and digest."""
    from airflow_mlops.core.governance.export_version import export_version
    from airflow_mlops.core.registry.model_file import file_digest

    workspace = workspace_of(args)
    with name_unwritable_file(args.into):
        file = export_version(
            workspace, args.version, args.into, environment=args.environment, with_example=args.with_example
        )
    model, digest = workspace.loop.model, file_digest(file)
    values = {"model": model, "version": args.version, "file": str(file), "sha256": digest}
    print_answer(args, values, [f"version {args.version} of {model}: {file}, SHA-256 {digest}"])


def adopt(args: argparse.Namespace) -> None:
    """Adopt a version, and print its number here and what comes next."""
    from airflow_mlops.core.governance.adopt_archive import adopt_archive

    workspace = workspace_of(args)
    adopted = adopt_archive(workspace, args.source, unjudged=args.unjudged)
    model = workspace.loop.model
    name = f"{adopted.origin} is version {adopted.number} of {model} here"
    started = f"its rollout begins with the next scored partition, or now: airflow dags trigger {model}_rollout"
    lines = [f"{name} already"] if adopted.existed else [f"{name}: {adopted.reason}", started]
    print_answer(args, {"model": model, **asdict(adopted)}, lines)
