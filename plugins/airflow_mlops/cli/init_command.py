"""The command ``airflow-mlops init``: start a project, or add what one lacks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import name_unwritable_file

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = "start a project in a folder, or add to a project what it lacks; no file is replaced"
    command = commands.add_parser("init", help=words, description=words)
    command.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="FOLDER", help="here if not given")
    command.add_argument("--model", metavar="NAME", help="also write a model of that name over made-up rows, that runs")
    command.add_argument(
        "--ci", choices=("github", "gitlab"), help="also write the pipeline that tests each change of the loops there"
    )
    command.set_defaults(run=init_project)


def init_project(args: argparse.Namespace) -> None:
    """Write the files of a project that do not exist yet, and print which were added and which were kept."""
    from airflow_mlops.core.scaffold.new_project import start_project

    folder = args.folder.resolve()
    with name_unwritable_file(folder):
        project = start_project(folder, args.ci)
    print("".join(f"added {path}\n" for path in project.added), end="")
    print("".join(f"kept  {path}\n" for path in project.kept), end="")
    if project.not_ignored:
        print(f"your .gitignore lacks {', '.join(project.not_ignored)}: what Airflow and the loops keep in the folder")
    if args.model is not None:
        add_example(args.model, args.folder)
        return
    go = "" if project.root == Path.cwd() else f"cd {args.folder} && "
    print(f"next: {go}airflow-mlops new MODEL --from data.csv")


def add_example(model: str, folder: Path) -> None:
    """Write made-up rows and a model of them, unless the project has files of a model of that name."""
    from airflow_mlops.cli.new_command import add_commands as add_new
    from airflow_mlops.cli.new_command import new_model
    from airflow_mlops.core.scaffold.draft_model import model_paths, require_model_name
    from airflow_mlops.core.scaffold.example_rows import LABEL, example_csv
    from airflow_mlops.core.scaffold.new_files import write_new_files

    require_model_name(model)
    standing = [path for path in model_paths(model).values() if (folder / path).exists()]
    if standing:
        print("".join(f"kept  {path}\n" for path in standing), end="")
        return
    data = f"include/data/{model}.csv"
    print("".join(f"added {path}\n" for path in write_new_files(folder, {data: example_csv()})), end="")
    parser = argparse.ArgumentParser()
    add_new(parser.add_subparsers())
    new_model(parser.parse_args(["new", model, "--from", str(folder / data), "--label", LABEL, "--root", str(folder)]))
