"""The command line: ``airflow-mlops``.

    airflow-mlops check LOOP       read a declaration and say what is wrong with it
    airflow-mlops schema           print the JSON schema of declarations, for editors
    airflow-mlops status LOOP      champion, rollout, newest partition, what is under way
    airflow-mlops history LOOP     what was decided, by whom, when and why
    airflow-mlops reconcile LOOP   make the registry say what the ledger says
    airflow-mlops verify LOOP      recompute the ledger's chain of hashes
    airflow-mlops skew LOOP        replay scored rows one by one and all together, and compare
    airflow-mlops quarantine list|show|release LOOP  look at bad rows, release them after a fix
    airflow-mlops forget LOOP      erase a subject from snapshots, predictions and quarantine
    airflow-mlops tidy LOOP        expire old partitions, delete files that nothing needs
    airflow-mlops contract suggest FILE...  draft a contract and a first suite from data

LOOP is the path of a YAML declaration, or of a Dag file that declares one loop. The stores are found
as in a task: through the Airflow connections mlops_lake, mlops_ledger and mlops_registry, or embedded
below AIRFLOW_HOME.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from airflow_mlops.cli import contract_commands, lake_commands, loop_commands, skew_command
from airflow_mlops.core.errors import MlopsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 1 with one line on standard error that says why."""
    asked = parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], None] = asked.run
        run(asked)
    except MlopsError as error:
        print(f"airflow-mlops: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    summary = (__doc__ or "").splitlines()
    whole = argparse.ArgumentParser(
        prog="airflow-mlops", description="\n".join(summary[2:]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for module in (loop_commands, contract_commands, lake_commands, skew_command):
        module.add_commands(commands)
    return whole
