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
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops import cli_lake, cli_skew
from airflow_mlops.cli_data import add_commands
from airflow_mlops.core.errors import DeclarationError, MlopsError
from airflow_mlops.core.loop import Loop
from airflow_mlops.core.loop_file import read_loop
from airflow_mlops.core.training.function_exists import check_function_exists

if TYPE_CHECKING:
    from airflow_mlops.core.governance.record import Record

SHOWN_KINDS = frozenset({
    "partition_refused", "retrain_decided", "training_failed", "candidate_refused", "candidate_registered",
    "rollout_started", "stage_analysed", "promoted", "rolled_back", "superseded",
})  # fmt: skip


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
    commands.add_parser("schema", help="print the JSON schema of declarations").set_defaults(run=schema)
    for name, run, words in (
        ("check", check, "read a declaration and say what is wrong with it"),
        ("status", status, "say where a loop stands"),
        ("history", history, "list what was decided, by whom, when and why"),
        ("reconcile", reconcile_aliases, "make the registry say what the ledger says"),
        ("verify", verify, "recompute the ledger's chain of hashes"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("loop", type=Path, metavar="LOOP", help="YAML declaration, or Dag file")
        command.add_argument("--root", type=Path, default=Path(), help="project folder that relative paths start from")
        if name == "history":
            command.add_argument("--all", action="store_true", help="also the facts of every partition")
        command.set_defaults(run=run)
    add_commands(commands)
    cli_skew.add_commands(commands)
    cli_lake.add_commands(commands)
    return whole


def schema(_asked: argparse.Namespace) -> None:
    """Print the JSON schema of declarations."""
    print(json.dumps(loop_schema(), indent=2))


def loop_schema() -> dict[str, Any]:
    """Return the JSON schema of declarations, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A loop of airflow-mlops",
        **Loop.model_json_schema(by_alias=True),
    }


def check(asked: argparse.Namespace) -> None:
    """Read a declaration, its training function's whereabouts, and its suite against Great Expectations."""
    loop = loop_of(asked)
    check_function_exists(loop.train.function, asked.root.resolve())
    if loop.data.features is not None:
        check_function_exists(loop.data.features, asked.root.resolve(), key="data.features")
    if loop.data.expectations:
        from airflow_mlops.core.validation.gx_suite_check import check_suite

        check_suite(asked.root / loop.data.expectations)
    print(f"{asked.loop}: {loop.model} is well declared")


def status(asked: argparse.Namespace) -> None:
    """Print where a loop stands."""
    state = workspace_of(asked).state()
    champion, rollout = state.champion, state.rollout
    newest = max(state.published, default="none")
    print(f"champion          {f'version {champion.number}, live since {state.promoted_at}' if champion else 'none'}")
    shown = f"version {rollout.version.number}, {rollout.kind} {rollout.share} %" if rollout else "none"
    print(f"rollout           {shown}")
    print(f"under way         {state.in_flight or 'nothing'}")
    print(f"newest partition  {newest}  ({len(state.published)} published, {len(state.refused)} refused)")
    print(
        f"retrains          {len(state.retrains)}, promotions {len(state.promotions)}, rollbacks {len(state.rollbacks)}"
    )
    for version, reason in state.quarantined.items():
        print(f"quarantined       version {version}: {reason}")


def history(asked: argparse.Namespace) -> None:
    """Print the records of decisions, or all records, oldest first."""
    for record in workspace_of(asked).ledger.records():
        quiet = record.kind == "retrain_decided" and not record.details["retrain"]
        if asked.all or (record.kind in SHOWN_KINDS and not quiet):
            print(
                f"{record.sequence:>6}  {record.recorded_at[:19]}  {record.partition or '-':<19}  "
                f"{record.kind}  {said_in(record)}  [{record.actor}]"
            )


def said_in(record: Record) -> str:
    """Return what a record says, in a few words."""
    details = record.details
    if record.kind == "snapshot_published":
        return f"{details['rows']} rows, {details['quarantined']} in quarantine"
    if record.kind == "predictions_published":
        return f"{details['rows']} rows by champion {details['champion']}"
    version = f"version {details['version']}" if "version" in details else ""
    verdict = details.get("verdict", "")
    return " ".join(str(part) for part in (version, verdict, details.get("reason", "")) if part)


def reconcile_aliases(asked: argparse.Namespace) -> None:
    """Make the registry say what the ledger says."""
    from airflow_mlops.core.governance.reconcile import reconcile

    repairs = reconcile(workspace_of(asked))
    print("\n".join(repairs) or "nothing to repair: every alias is what the ledger says")


def verify(asked: argparse.Namespace) -> None:
    """Recompute the chain of hashes."""
    from airflow_mlops.core.governance.record import verify_chain

    workspace = workspace_of(asked)
    count = verify_chain(workspace.ledger.records())
    print(f"{workspace.loop.model}: {count} records, every hash holds")


def loop_of(asked: argparse.Namespace) -> Loop:
    """Return the declared loop: from YAML, or from a Dag file that declares one."""
    if asked.loop.suffix != ".py":
        return read_loop(asked.loop)
    from airflow_mlops.factories.build_dags import loops_in

    loops = loops_in(asked.loop)
    if len(loops) != 1:
        raise DeclarationError(f"declares {len(loops)} loops; name a file that declares one", file=str(asked.loop))
    return loops[0]


def workspace_of(asked: argparse.Namespace) -> Any:
    """Return the workspace of the declared loop, acting in the name of the person at the keyboard."""
    from airflow_mlops.hooks.workspace import WorkspaceHook

    loop = loop_of(asked)
    return WorkspaceHook().workspace(loop, root=asked.root.resolve(), actor=f"person:{getpass.getuser()}")


if __name__ == "__main__":
    sys.exit(main())
