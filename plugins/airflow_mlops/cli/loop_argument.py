"""The MODEL argument of a command: the declared loop, and its stores as a task finds them."""

from __future__ import annotations

import argparse
import getpass
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.completion_command import complete_model
from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.workspace import Workspace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Run = Callable[[argparse.Namespace], None]


def add_command(
    commands: Commands, name: str, run: Run, description: str, *, every: bool = False
) -> argparse.ArgumentParser:
    """Add a command that is about a loop, or about every loop without one, and return it for further arguments."""
    command = commands.add_parser(name, help=description, description=description)
    model_help = "name of the model, or path of its YAML declaration or Dag file"
    help_, count = (f"{model_help}; every model without it", "?") if every else (model_help, None)
    argument: Any = command.add_argument("loop", type=Path, metavar="MODEL", nargs=count, help=help_)
    argument.completer = complete_model
    command.add_argument("--root", type=Path, default=Path(), help="project folder that relative paths start from")
    command.set_defaults(run=run)
    return command


def add_json(command: argparse.ArgumentParser) -> None:
    """Add the option by which a command prints its answer as one JSON object, for programs."""
    command.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def print_answer(args: argparse.Namespace, values: Any, lines: Iterable[str]) -> None:
    """Print an answer: its values as one JSON object where ``--json`` asks for it, else its lines for a person."""
    if args.json:
        print(json.dumps(values, indent=2, ensure_ascii=False, default=str))
        return
    for line in lines:
        print(line)


def loop_of(args: argparse.Namespace) -> Loop:
    """Return the declared loop: that of a model of the project, from YAML, or from a Dag file that declares one."""
    file: Path = args.loop
    if file.suffix == ".py":
        loops = loops_of(file)
        if len(loops) != 1:
            raise DeclarationError(f"declares {len(loops)} loops; name a file that declares one", file=str(file))
        return loops[0]
    if file.suffix in (".yaml", ".yml") or file.is_file():
        from airflow_mlops.core.declaration.read_loop import read_loop

        return read_loop(file)
    return loop_of_model(str(file), args.root)


def loop_of_model(model: str, root: Path) -> Loop:
    """Return the loop of a model, from ``include/loops/`` or, where it is declared in Python, from ``dags/``.

    A broken file of another model stops nobody, even where it speaks of this one.

    Raises
    ------
    DeclarationError
        If no declaration below the project folder is of that model; names the files that could not be read.
    """
    broken = []
    # A file that never says the name cannot declare it.
    for file in project_files(root):
        if model not in file.read_text(encoding="utf-8", errors="replace"):
            continue
        try:
            loops = loops_of(file)
        except DeclarationError as error:
            if file.stem == model:
                raise
            broken.append(f"{file} ({error})")
            continue
        except Exception as error:  # a Dag file may raise anything
            broken.append(f"{file} ({type(error).__name__}: {error})")
            continue
        match = next((loop for loop in loops if loop.model == model), None)
        if match is not None:
            return match
    raise DeclarationError(
        f"no declaration of a model {model!r} in include/loops/*.yaml or dags/*.py below {root}; "
        "name the file, or say --root" + (f"; could not be read: {', '.join(broken)}" if broken else "")
    )


@contextmanager
def name_unwritable_file(file: Path) -> Iterator[None]:
    """Turn an OSError of writing ``file`` into an error that names the file and the cause.

    Raises
    ------
    DeclarationError
        If the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise DeclarationError(f"cannot be written: {error.strerror}", file=str(file)) from None


def loops_of(file: Path) -> list[Loop]:
    """Return the loops that a Dag file or a YAML file declares."""
    if file.suffix != ".py":
        from airflow_mlops.core.declaration.read_loop import read_loop

        return [read_loop(file)]
    from airflow_mlops.factories.build_dags import loops_in

    return loops_in(file)


def project_files(root: Path) -> list[Path]:
    """Return the files of a project that may declare loops: YAML files before Dag files, each ordered by name."""
    return [*sorted((root / "include" / "loops").glob("*.y*ml")), *sorted((root / "dags").glob("*.py"))]


def declared_loops(root: Path) -> tuple[dict[str, Loop], list[str]]:
    """Return every loop that a project declares, by model, and what could not be read, in words."""
    loops: dict[str, Loop] = {}
    broken = []
    for file in project_files(root):
        # A Dag file that never says the name builds the Dags of no loop.
        if file.suffix == ".py" and "build_dags" not in file.read_text(encoding="utf-8", errors="replace"):
            continue
        try:
            for loop in loops_of(file):
                loops.setdefault(loop.model, loop)
        except DeclarationError as error:
            broken.append(str(error))
        except Exception as error:  # a Dag file may raise anything
            broken.append(f"{file}: {type(error).__name__}: {error}")
    return loops, broken


def workspace_of(args: argparse.Namespace, *, new: bool = False) -> Workspace:
    """Return the workspace of the declared loop, acting in the name of the person at the keyboard.

    Parameters
    ----------
    new : bool
        Whether the command can do without a ledger, and may make one.

    Raises
    ------
    DeclarationError
        If the loop is not well declared, or there is no ledger.
    """
    from airflow_mlops.hooks.workspace import WorkspaceHook

    loop, hook = loop_of(args), WorkspaceHook()
    if not new:
        hook.existing_ledger()
    return hook.workspace(loop, root=args.root.resolve(), actor=acting_person())


def acting_person() -> str:
    """Return the actor of a command, as the ledger names the person at the keyboard."""
    return f"person:{getpass.getuser()}"


def partition_named(workspace: Workspace, text: str) -> str:
    """Return the key of a partition that a person named.

    Raises
    ------
    DataError
        If the loop knows no such partition and its time is no tick; the message names the keys that may be meant.
    """
    from airflow_mlops.core.declaration.partition_key import partition_key

    key, state = partition_key(text), workspace.state()
    # A partition of an earlier schedule may lie off the ticks of today.
    return key if key in state.published or key in state.refused else workspace.loop.data.schedule.require_tick(key)
