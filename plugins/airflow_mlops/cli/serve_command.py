"""``airflow-mlops serve``: run the gateway of a model."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from airflow_mlops.cli.asked_loop import add_command, loop_of

if TYPE_CHECKING:
    from airflow_mlops.cli.asked_loop import Commands


def add_commands(commands: Commands) -> None:
    """Add the command."""
    from airflow_mlops.gateway.settings import add_arguments

    words = "answer requests with the champion, and in a rollout with the challenger; needs the extra gateway"
    add_arguments(add_command(commands, "serve", serve, words))


def serve(asked: argparse.Namespace) -> None:
    """Serve until a signal ends it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before scikit-learn is imported: one row needs no threads
    loop = loop_of(asked)
    from airflow_mlops.gateway.settings import build_settings

    settings = build_settings(asked, loop, os.environ)
    from airflow_mlops.gateway.server import run

    run(settings)
