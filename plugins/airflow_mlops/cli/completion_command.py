"""The command ``airflow-mlops completion``: the script by which a shell completes commands and models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands

SHELLS = ("bash", "zsh", "fish")


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    words = 'print the script that completes commands and models; bash: eval "$(airflow-mlops completion bash)"'
    command = commands.add_parser("completion", help=words, description=words)
    command.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
    command.set_defaults(run=completion)


def completion(args: argparse.Namespace) -> None:
    """Print the script of a shell."""
    from argcomplete.shell_integration import shellcode

    use_defaults = True
    print(shellcode(["airflow-mlops"], use_defaults, args.shell))


def complete_model(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the models that a project declares in YAML and that begin so; Dag files are not run for it."""
    root = Path(getattr(parsed_args, "root", None) or ".")
    models = sorted(file.stem for file in (root / "include" / "loops").glob("*.y*ml"))
    return [model for model in models if model.startswith(prefix)]
