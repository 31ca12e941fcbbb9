"""``airflow-mlops serve``: run the gateway of a model."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import add_command, loop_of

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands


def add_commands(commands: Commands) -> None:
    """Add the command of this module to those of the command line."""
    from airflow_mlops.gateway.settings import add_arguments

    words = "answer requests with the champion, and in a rollout with the challenger; needs the extra gateway"
    add_arguments(add_command(commands, "serve", serve, words))


def serve(args: argparse.Namespace) -> None:
    """Run the gateway until a signal ends it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before scikit-learn is imported: one row needs no threads
    loop = loop_of(args)
    from airflow_mlops.gateway.settings import build_settings
    from airflow_mlops.gateway.start import start_gateway

    start_gateway(build_settings(args, loop, os.environ))
