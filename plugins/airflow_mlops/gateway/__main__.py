"""``python -m airflow_mlops.gateway MODEL``: a gateway without the command line of the package.

MODEL is the path of a YAML declaration, or the name of a model that ``include/loops/`` declares.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# One row is no work for several threads: waiting for each other, they would cost more than they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.read_loop import read_loop
from airflow_mlops.core.errors import DeclarationError, MlopsError
from airflow_mlops.gateway.settings import add_arguments, settings_of


def main() -> int:
    """Serve until a signal ends it; 1 with one line on standard error where it cannot start."""
    command = argparse.ArgumentParser(prog="python -m airflow_mlops.gateway", description="Serve a model.")
    command.add_argument("loop", type=Path, metavar="MODEL", help="name of the model, or path of its declaration")
    command.add_argument("--root", type=Path, default=Path(), help="project folder that relative paths start from")
    add_arguments(command)
    asked = command.parse_args()
    try:
        settings = settings_of(asked, declared(asked.loop, asked.root), os.environ)
        from airflow_mlops.gateway.server import run

        run(settings)
    except MlopsError as error:
        print(f"airflow-mlops: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        return 1
    return 0


def declared(model: Path, root: Path) -> Loop:
    """Return the loop in a YAML file, or the one that ``include/loops/`` declares under a name."""
    if model.suffix in (".yaml", ".yml"):
        return read_loop(model)
    files = [root / "include" / "loops" / f"{model}{ending}" for ending in (".yaml", ".yml")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise DeclarationError(f"there is no declaration of {str(model)!r}; name its YAML file", file=str(files[0]))
    return read_loop(found)


if __name__ == "__main__":
    sys.exit(main())
