"""Airflow's scheduler with the libraries of the stages already imported, run by ``python -m``.

The workers of the LocalExecutor are forks of the scheduler and every task is a fork of a worker, so what the
scheduler has imported, no task imports again. Only importing is safe: a library that has run threads before
the fork (OpenMP, delta-rs) may hang or refuse in the child, so nothing is called here. The variable
``AIRFLOW_MLOPS_PRELOAD`` (names, comma-separated; empty for none) replaces the list of modules.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading

MODULES = (
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "deltalake",
    "sklearn.ensemble",
    "sklearn.pipeline",
    "sklearn.compose",
    "skops.io",
    "mlflow",
    "mlflow.sklearn",
    "mlflow.tracking",
    "matplotlib.backends.backend_svg",
    "model_signing",
    "great_expectations",
)
"""What the stages of a loop import when they run."""


def preload(modules: tuple[str, ...] = MODULES) -> list[str]:
    """Import the modules that are installed and return the names of those that are not.

    Raises
    ------
    RuntimeError
        If importing left a Python thread running, which no fork would inherit.
    """
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            missing.append(name)
    if threading.active_count() > 1:
        running = ", ".join(thread.name for thread in threading.enumerate()[1:])
        raise RuntimeError(
            f"Importing {', '.join(modules)} started the threads {running}; a fork would lose them. "
            "Take the module that starts them out of AIRFLOW_MLOPS_PRELOAD."
        )
    return missing


def main() -> None:
    """Import, then become ``airflow scheduler`` with the arguments of the command line."""
    wanted = os.environ.get("AIRFLOW_MLOPS_PRELOAD")
    names = MODULES if wanted is None else tuple(name.strip() for name in wanted.split(",") if name.strip())
    missing = preload(names)
    if missing:
        sys.stderr.write(f"Not installed, so not preloaded: {', '.join(missing)}\n")
    sys.argv = ["airflow", "scheduler", *sys.argv[1:]]
    from airflow.__main__ import main as airflow_main

    airflow_main()


if __name__ == "__main__":
    main()
