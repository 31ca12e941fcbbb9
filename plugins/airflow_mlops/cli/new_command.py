"""The command ``airflow-mlops new``: draft a model from one file of rows."""

from __future__ import annotations

import argparse
import getpass
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import loop_of_model
from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands
    from airflow_mlops.core.data.drafting.learn_columns import LearnedTable
    from airflow_mlops.core.scaffold.draft_model import Choices, ModelDraft


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = (
        "draft a model from one file of rows: contract, suite, declaration, training function, Dag file and test; "
        "on a terminal it asks for what is not given"
    )
    command = commands.add_parser("new", help=words, description=words)
    command.add_argument("model", metavar="MODEL", help="name of the new model")
    command.add_argument(
        "--from",
        dest="data",
        type=Path,
        required=True,
        metavar="FILE",
        help="file with all rows, which stays where it is: .csv (plain or packed), .parquet, .orc, .xlsx",
    )
    command.add_argument("--label", metavar="COLUMN", help="column to predict")
    command.add_argument(
        "--key", metavar="COLUMN", help="column that tells rows apart, or several as a,b; else guessed"
    )
    command.add_argument(
        "--time",
        metavar="COLUMN",
        help="column with the time of a row, which cuts the file into partitions; else guessed",
    )
    command.add_argument(
        "--every", metavar="CRON", help="length of a partition: @daily, @weekly or a cron expression; else by the rows"
    )
    command.add_argument(
        "--tests", action=argparse.BooleanOptionalAction, default=None, help="write a test of the model; yes by default"
    )
    command.add_argument("--owner", default=None, metavar="NAME", help="owner of the Dags; who you are if not given")
    command.add_argument("--delimiter", help="character between two values of a CSV file; guessed if not given")
    command.add_argument("--sheet", help="name of the sheet of a workbook; the first one if not given")
    command.add_argument("--root", type=Path, default=Path(), help="project folder")
    command.set_defaults(run=new_model)


def new_model(args: argparse.Namespace) -> None:
    """Draft a model, write its files, check them, and print what is unsure and what comes next."""
    from airflow_mlops.core.scaffold.draft_model import require_file_to_cut, require_model_name

    require_model_name(args.model)
    require_new_model(args.model, args.root, tests=args.tests is not False)
    require_file_to_cut(args.data)
    draft = draft_from_file(args)
    write_draft(draft, args.model, args.root)


def draft_from_file(args: argparse.Namespace) -> ModelDraft:
    """Return the draft of a model from the columns of its file and the answers of a person."""
    from airflow_mlops.core.data.drafting.learn_columns import learn_table
    from airflow_mlops.core.data.drafting.null_texts import with_null_texts
    from airflow_mlops.core.scaffold.draft_model import draft_model, require_file_to_cut

    with learn_table([args.data], delimiter=args.delimiter, sheet=args.sheet) as learned:
        table = with_null_texts(learned) if require_file_to_cut(args.data) == "csv" else learned
        choices = choices_of(args, table)
        if sys.stdin.isatty():
            choices = ask_choices(choices, args, table)
        return draft_model(table, args.data, args.root.resolve(), choices)


def require_new_model(model: str, root: Path, *, tests: bool) -> None:
    """Raise DeclarationError if the project has a model of that name, or one of the files that would be written."""
    from airflow_mlops.core.scaffold.draft_model import model_paths

    standing = [path for path in model_paths(model, tests=tests).values() if (root / path).exists()]
    if standing:
        raise DeclarationError(
            f"model {model!r} cannot be made: {', '.join(standing)} stands there already and is not replaced; "
            "choose another name, or move the files away first"
        )
    try:
        loop_of_model(model, root)
    except DeclarationError:
        return
    raise DeclarationError(f"model {model!r} is declared already below {root.resolve()}; choose another name")


def choices_of(args: argparse.Namespace, table: LearnedTable) -> Choices:
    """Return the choices that the options hold.

    Raises
    ------
    DeclarationError
        If the label is missing and nobody can be asked; names the option and the columns.
    """
    from airflow_mlops.core.scaffold.draft_model import Choices

    if args.label is None and not sys.stdin.isatty():
        raise DeclarationError(
            f"which column is to be predicted? say it with --label; the columns are {', '.join(table.columns)}"
        )
    return Choices(
        model=args.model,
        label=args.label or "",
        owner=args.owner or getpass.getuser(),
        key=args.key,
        time=args.time,
        every=args.every,
        tests=args.tests is not False,
    )


def ask_choices(choices: Choices, args: argparse.Namespace, table: LearnedTable) -> Choices:
    """Ask on the terminal for every choice that no option made; an empty answer takes what stands in brackets."""
    from airflow_mlops.core.data.drafting.choose_key import choose_key
    from airflow_mlops.core.data.drafting.learn_columns import require_column
    from airflow_mlops.core.data.drafting.partition_cut import choose_every
    from airflow_mlops.core.data.drafting.suggest_contract import choose_time

    print(f"{args.data.name} has {table.rows:,} rows and the columns {', '.join(table.columns)}")
    label = choices.label or ask_column("the column to predict", "--label", table)
    key = choices.key or ask(
        "the columns that tell rows apart, as a or a,b", "--key", guess(lambda: choose_key(table, [args.data], None))
    )
    time = choices.time or ask_column(
        "the time of a row, which cuts the file", "--time", table, guess(lambda: choose_time(table, None))
    )
    every = choices.every or ask(
        "the length of a partition", "--every", choose_every(require_column(table, time), table.rows)
    )
    tests = args.tests if args.tests is not None else ask("write a test?", "--tests", "yes").lower() in ("y", "yes")
    return replace(choices, label=label, key=key, time=time, every=every, tests=tests)


def guess(choose: Callable[[], tuple[str, str]]) -> str | None:
    """Return the column that fits a role best; None, and print why, where none does."""
    try:
        return choose()[0]
    except DeclarationError as error:
        print(error.message)
        return None


def ask_column(question: str, option: str, table: LearnedTable, default: str | None = None) -> str:
    """Ask for a column until the answer is one."""
    while (name := ask(question, option, default)) not in table.columns:
        print(f"there is no column {name!r}; the columns are {', '.join(table.columns)}")
    return name


def ask(question: str, option: str, default: str | None = None) -> str:
    """Return the answer of a person, or the default where it is empty; without one, ask again.

    Raises
    ------
    DeclarationError
        If the input ends without an answer; names the option.
    """
    shown = f" [{default}]" if default else ""
    try:
        while not (answer := input(f"{question}{shown}: ").strip() or default):
            pass
    except EOFError:
        raise DeclarationError(f"{question}: there is no answer; say it with {option}") from None
    return answer


def require_valid_draft(texts: Mapping[str, str], model: str) -> None:
    """Raise DeclarationError if what was drafted is no valid declaration; it is written to a folder that is removed."""
    from airflow_mlops.core.check_declaration import check_declaration
    from airflow_mlops.core.declaration.read_loop import read_loop
    from airflow_mlops.core.scaffold.new_files import write_new_files

    with tempfile.TemporaryDirectory() as folder:
        write_new_files(Path(folder), texts)
        try:
            check_declaration(read_loop(Path(folder, "include", "loops", f"{model}.yaml")), Path(folder))
        except DeclarationError as error:
            where = f"{error.key}: " if error.key else ""
            raise DeclarationError(f"no model can be declared over this file: {where}{error.message}") from None


def write_draft(draft: ModelDraft, model: str, root: Path) -> None:
    """Write the files of a model, check its declaration, and print what was done and what comes next."""
    from airflow_mlops.core.check_declaration import check_declaration
    from airflow_mlops.core.declaration.read_loop import read_loop
    from airflow_mlops.core.scaffold.new_files import write_new_files

    texts = {**draft.packages, **draft.texts}
    require_valid_draft(texts, model)
    for path in write_new_files(root, texts):
        print(f"wrote {path}")
    print("".join(f"unsure: {remark}\n" for remark in draft.remarks), end="")
    file = root / "include" / "loops" / f"{model}.yaml"
    check_declaration(read_loop(file), root.resolve(), candidates=True, file=str(file))
    print(f"{model} is well declared; read what was written, and then:")
    where = "" if root.resolve() == Path.cwd() else f" --root {root}"
    print(f"  airflow-mlops check {model}{where}")
    print(f"  airflow-mlops try {model} --fit{where}")
    print("  airflow standalone              # with AIRFLOW_HOME set to the project folder")
    print(f"  airflow-mlops enable {model} --past --wait 300{where}")
