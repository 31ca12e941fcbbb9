"""The command line: ``airflow-mlops``.

    airflow-mlops init [FOLDER]     start a project, or add what one lacks; no file is replaced
    airflow-mlops new MODEL --from FILE   draft a model from one file of rows
    airflow-mlops enable MODEL      unpause the Dags of a loop; --past ingests the partitions that there are
    airflow-mlops disable MODEL     pause the Dags of a loop
    airflow-mlops check MODEL       read a declaration and say what is wrong with it
    airflow-mlops try MODEL         one partition through contract, suite and features; nothing is kept
    airflow-mlops diff FOLDER       what the loops declare otherwise than those of another state
    airflow-mlops schema            print the JSON schema of declarations, for editors
    airflow-mlops list              every loop of the project in a table
    airflow-mlops status MODEL      champion, rollout, newest partition, what is under way
    airflow-mlops judge MODEL       judge partitions that a newer one came before, in the order of their keys
    airflow-mlops history MODEL     who promoted what, when and why
    airflow-mlops watch MODEL       what the loop decides, as it decides it
    airflow-mlops rollout status|pause|resume|skip|abort|approve MODEL   a rollout under way
    airflow-mlops serve MODEL       answer requests: the gateway, a process of its own
    airflow-mlops rollback MODEL    take back the rollout under way, or the champion
    airflow-mlops unquarantine MODEL VERSION   let a version that was taken back serve again
    airflow-mlops reproduce MODEL VERSION  make a version again and compare its predictions
    airflow-mlops explain MODEL VERSION    trace one row through its features to its prediction
    airflow-mlops card MODEL VERSION       the model card of a version, as Markdown or HTML
    airflow-mlops export MODEL VERSION     a version as one signed file, for another environment
    airflow-mlops adopt MODEL       make a version of another environment a candidate here
    airflow-mlops ml-test-score MODEL   the ML Test Score of a loop, with the evidence of each point
    airflow-mlops audit verify|anchor|export MODEL   is the ledger whole; take it elsewhere
    airflow-mlops reconcile MODEL   make target and registry say what the ledger says, and watch over a rollout
    airflow-mlops replay MODEL      what other retrain policies would have made of its history
    airflow-mlops report MODEL      the page about a scored partition, kept and as a file
    airflow-mlops skew MODEL        replay scored rows one by one and all together, and compare
    airflow-mlops quarantine list|show|release MODEL look at bad rows, release them after a fix
    airflow-mlops forget MODEL      erase a subject from snapshots, predictions and quarantine
    airflow-mlops tidy MODEL        expire old partitions, delete files that nothing needs
    airflow-mlops metrics           the metrics of every loop for Prometheus, printed once or into a file
    airflow-mlops exporter          the same, served over HTTP
    airflow-mlops doctor            everything that loops need around them, and the command that mends it
    airflow-mlops contract suggest FILE...  draft a contract and a first suite from data
    airflow-mlops completion bash|zsh|fish  the script that completes commands and models in a shell

MODEL is the name of a model that include/loops/ or dags/ declares, or the path of its YAML declaration or
Dag file. The stores are found as in a task: through the Airflow connections mlops_lake, mlops_ledger and
mlops_registry, or embedded below AIRFLOW_HOME.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from airflow_mlops.cli import (
    adopt_commands,
    audit_commands,
    completion_command,
    contract_commands,
    diff_command,
    doctor_command,
    enable_commands,
    init_command,
    lake_commands,
    loop_commands,
    metrics_commands,
    new_command,
    proof_commands,
    replay_command,
    report_command,
    rollback_commands,
    rollout_commands,
    serve_command,
    skew_command,
    try_command,
    watch_command,
)
from airflow_mlops.core.errors import MlopsError
from airflow_mlops.release import __version__

CLOSED_PIPE = 128 + 13
"""Exit code of a program that was stopped by a closed pipe."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 1 with one line on standard error that says why.

    It is 141, as that of any program, where what reads the output is closed.
    """
    command_line = parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next, and reads the answer from its own channel
        import argcomplete

        argcomplete.autocomplete(command_line)
    args = command_line.parse_args(arguments)
    # It logs every step to a new schema, and every trial has one.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        run: Callable[[argparse.Namespace], None] = args.run
        run(args)
        sys.stdout.flush()
    except MlopsError as error:
        print(f"airflow-mlops: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads has enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    summary = (__doc__ or "").splitlines()
    command_line = argparse.ArgumentParser(
        prog="airflow-mlops", description="\n".join(summary[2:]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command_line.add_argument("--version", action="version", version=f"airflow-mlops {__version__}")
    commands = command_line.add_subparsers(required=True, metavar="COMMAND")
    modules = (
        init_command,
        new_command,
        enable_commands,
        loop_commands,
        try_command,
        diff_command,
        rollout_commands,
        rollback_commands,
        proof_commands,
        adopt_commands,
        audit_commands,
        contract_commands,
        lake_commands,
        skew_command,
        serve_command,
        replay_command,
        report_command,
        watch_command,
        completion_command,
        metrics_commands,
        doctor_command,
    )
    for module in modules:
        module.add_commands(commands)
    return command_line
