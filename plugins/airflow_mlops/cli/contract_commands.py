"""The command ``airflow-mlops contract suggest``: draft a contract and a suite from files.

airflow-mlops contract suggest FILE...   draft a contract and a first suite from Parquet, ORC, CSV, JSON lines or Excel
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    contract = commands.add_parser("contract", help="draft the contract of a data set")
    subcommands = contract.add_subparsers(required=True, metavar="COMMAND")
    add_suggest(subcommands, suggest)


def add_suggest(commands: Commands, run: Callable[[argparse.Namespace], None]) -> None:
    """Add ``contract suggest`` with its arguments."""
    words = (
        "draft a contract and a first suite from files (Parquet, ORC, CSV, JSON lines, Excel), for a person to review"
    )
    command = commands.add_parser("suggest", help=words, description=words)
    command.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="files of one kind: .parquet, .orc, .xlsx, or .csv and .jsonl, plain or packed",
    )
    command.add_argument("--key", help="column that tells rows apart, or several as a,b; guessed if not given")
    command.add_argument("--time", help="column with the time of a row; guessed if not given")
    command.add_argument("--name", help="name of the data set; that of the file, or of its folder, if not given")
    command.add_argument("--delimiter", help="character between two values of a CSV file; guessed if not given")
    command.add_argument("--sheet", help="name of the sheet of workbooks; the first one if not given")
    command.add_argument(
        "--path-column",
        action="append",
        default=[],
        metavar="NAME",
        help="column whose values are in the paths of the files, as in NAME=eu/; may be given several times",
    )
    command.add_argument(
        "--into",
        type=Path,
        metavar="FOLDER",
        help="write FOLDER/contracts/NAME.yaml and FOLDER/expectations/NAME.yaml, and replace nothing",
    )
    command.set_defaults(run=run)


def suggest(args: argparse.Namespace) -> None:
    """Print the drafts, or write them where nothing stands yet."""
    from airflow_mlops.core.data.drafting.learn_columns import learn_table
    from airflow_mlops.core.data.drafting.suggest_contract import data_set_name, draft_contract
    from airflow_mlops.core.validation.suggest_suite import draft_suite

    name = args.name or data_set_name(args.files)
    with learn_table(args.files, delimiter=args.delimiter, sheet=args.sheet, path_columns=args.path_column) as table:
        draft = draft_contract(table, args.files, name=name, key=args.key, time=args.time)
        suite = draft_suite(table, args.files, key=draft.key, hidden=draft.personal, names=draft.names)
    if args.into is None:
        print(f"{draft.text}---\n{suite}", end="")
        return
    texts = {args.into / "contracts" / f"{name}.yaml": draft.text, args.into / "expectations" / f"{name}.yaml": suite}
    for path in texts:
        if path.exists():
            raise DeclarationError("stands there already and is not replaced; move it away first", file=str(path))
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    print("\n".join(f"guessed: {remark}" for remark in draft.remarks))
    print("review both before they are used")
