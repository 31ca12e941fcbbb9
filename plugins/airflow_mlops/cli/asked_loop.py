"""The loop that a command is about: its declaration, and its stores as a task finds them."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.loop import Loop
from airflow_mlops.core.loop_file import read_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlops.core.workspace import Workspace

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Run = Callable[[argparse.Namespace], None]


def add_command(commands: Commands, name: str, run: Run, words: str) -> argparse.ArgumentParser:
    """Add a command that is about a loop, and return it for further arguments."""
    command = commands.add_parser(name, help=words, description=words)
    command.add_argument("loop", type=Path, metavar="LOOP", help="YAML declaration, or Dag file")
    command.add_argument("--root", type=Path, default=Path(), help="project folder that relative paths start from")
    command.set_defaults(run=run)
    return command


def loop_of(asked: argparse.Namespace) -> Loop:
    """Return the declared loop: from YAML, or from a Dag file that declares one."""
    if asked.loop.suffix != ".py":
        return read_loop(asked.loop)
    from airflow_mlops.factories.build_dags import loops_in

    loops = loops_in(asked.loop)
    if len(loops) != 1:
        raise DeclarationError(f"declares {len(loops)} loops; name a file that declares one", file=str(asked.loop))
    return loops[0]


def workspace_of(asked: argparse.Namespace) -> Workspace:
    """Return the workspace of the declared loop, acting in the name of the person at the keyboard."""
    from airflow_mlops.hooks.workspace import WorkspaceHook

    loop = loop_of(asked)
    return WorkspaceHook().workspace(loop, root=asked.root.resolve(), actor=f"person:{getpass.getuser()}")
