"""``airflow-mlops metrics`` and ``exporter``: where every loop stands in numbers, for Prometheus."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.loop_argument import name_unwritable_file
from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

    from airflow_mlops.cli.loop_argument import Commands

PORT = 9187
FILES = {"rules": "airflow_mlops_rules.yml", "dashboard": "airflow_mlops_dashboard.json"}
"""What the package brings for Prometheus and for Grafana."""


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    words = "print the metrics of every loop of the ledger for Prometheus, once"
    page = commands.add_parser("metrics", help=words, description=f"{words}; needs the extra metrics.")
    form = page.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, for programs")
    form.add_argument("--into", type=Path, metavar="FILE", help="replace a file at once, for node_exporter's textfiles")
    form.add_argument("--rules", action="store_true", help="print alert rules instead, for Prometheus")
    form.add_argument("--dashboard", action="store_true", help="print a dashboard instead, for Grafana")
    page.set_defaults(run=print_metrics)
    words = "serve the metrics of every loop of the ledger to Prometheus"
    server = commands.add_parser("exporter", help=words, description=f"{words}; needs the extra metrics.")
    server.add_argument("--host", default="127.0.0.1", help="address to listen on; no one has to log in")
    server.add_argument("--port", type=int, default=PORT, help="port to listen on; 0 for a free one")
    server.set_defaults(run=serve)


def print_metrics(args: argparse.Namespace) -> None:
    """Print the page of metrics once, or write it to a file; or print the rules or the dashboard."""
    for name, file in FILES.items():
        if getattr(args, name):
            print(resources.files("airflow_mlops.observe").joinpath(file).read_text(encoding="utf-8"), end="")
            return
    with require_metrics():
        from prometheus_client import generate_latest, write_to_textfile

        registry = loop_registry()
    if args.into is not None:
        with name_unwritable_file(args.into):
            write_to_textfile(str(args.into), registry)
    elif args.json:
        print(json.dumps(families_of(registry), indent=1))
    else:
        print(generate_latest(registry).decode(), end="")


def families_of(registry: CollectorRegistry) -> list[dict[str, Any]]:
    """Return the metrics of a registry as JSON values."""
    return [
        {
            "name": family.samples[0].name,
            "type": family.type,
            "help": family.documentation,
            "samples": [{"labels": sample.labels, "value": sample.value} for sample in family.samples],
        }
        for family in registry.collect()
    ]


def serve(args: argparse.Namespace) -> None:
    """Serve the page of metrics until a signal ends it."""
    with require_metrics():
        from airflow_mlops.observe.exporter import serve_metrics

        registry = loop_registry()
    serve_metrics(registry, args.host, args.port, lambda address: print(f"metrics at {address}", flush=True))


def loop_registry() -> CollectorRegistry:
    """Return the registry of the metrics of the ledger that tasks write to."""
    from airflow_mlops.hooks.workspace import WorkspaceHook
    from airflow_mlops.observe.ledger_collector import ledger_registry

    def find_ledger() -> str:
        return WorkspaceHook().existing_ledger_url().render_as_string(hide_password=False)

    return ledger_registry(find_ledger, lambda line: print(f"airflow-mlops: {line}", file=sys.stderr, flush=True))


@contextmanager
def require_metrics() -> Iterator[None]:
    """Turn a missing prometheus_client into an error that names the extra.

    Raises
    ------
    DeclarationError
        If it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise DeclarationError(
            "metrics need prometheus_client, which is not installed: pip install 'airflow-mlops[metrics]'"
        ) from None
