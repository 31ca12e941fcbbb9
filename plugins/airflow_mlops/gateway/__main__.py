"""``python -m airflow_mlops.gateway MODEL``: run a gateway without the package's command line.

MODEL is the path of a YAML declaration, or the name of a model that ``include/loops/`` declares.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # A single row is too little work for several threads: synchronising them costs more than they save.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.read_loop import read_loop
from airflow_mlops.core.errors import DeclarationError, MlopsError
from airflow_mlops.gateway.settings import add_arguments, build_settings
from airflow_mlops.gateway.start import start_gateway


def main() -> int:
    """Serve until a signal arrives; return 1, with a line on standard error, if the gateway cannot start."""
    command = argparse.ArgumentParser(prog="python -m airflow_mlops.gateway", description="Serve a model.")
    command.add_argument("loop", type=Path, metavar="MODEL", help="name of the model, or path of its declaration")
    command.add_argument("--root", type=Path, default=Path(), help="project folder that relative paths start from")
    add_arguments(command)
    args = command.parse_args()
    try:
        settings = build_settings(args, find_declaration(args.loop, args.root), os.environ)
        start_gateway(settings)
    except MlopsError as error:
        print(f"airflow-mlops: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        return 1
    return 0


def find_declaration(model: Path, root: Path) -> Loop:
    """Return the loop of a YAML file, or of a model's declaration in ``include/loops/``.

    Raises
    ------
    DeclarationError
        If there is no such file, or it is wrong.
    """
    if model.suffix in (".yaml", ".yml"):
        return read_loop(model)
    files = [root / "include" / "loops" / f"{model}{ending}" for ending in (".yaml", ".yml")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise DeclarationError(f"there is no declaration of {str(model)!r}; name its YAML file", file=str(files[0]))
    return read_loop(file)


if __name__ == "__main__":
    sys.exit(main())
