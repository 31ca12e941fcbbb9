"""The commands of ``airflow-mlops`` about a declaration, and about the state and history of its loop."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.loop_argument import (
    acting_person,
    add_command,
    add_json,
    declared_loops,
    loop_of,
    partition_named,
    print_answer,
    workspace_of,
)
from airflow_mlops.core.errors import DeclarationError, LedgerError

if TYPE_CHECKING:
    from airflow_mlops.cli.loop_argument import Commands
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.ledger.rollout_details import Promoted
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.ledger.state_machine import OpenRollout, Version
    from airflow_mlops.core.workspace import Workspace


CHAMPIONS_DATA = "champion's data"
"""The partitions that the champion was made from, and that hold other content since."""


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    commands.add_parser("schema", help="print the JSON schema of declarations").set_defaults(run=schema)
    add_json(add_command(commands, "check", check, "read a declaration and say what is wrong with it"))
    add_json(add_command(commands, "status", status, "say where a loop stands, or every loop", every=True))
    lists = commands.add_parser("list", help="every loop of the project in a table", description="List every loop.")
    lists.add_argument("--root", type=Path, default=Path(), help="project folder")
    lists.add_argument("--json", action="store_true", help="one line of JSON for each loop, for programs")
    lists.set_defaults(run=list_loops)
    words = "judge partitions that a newer one came before, in the order of their keys"
    judge_command = add_command(commands, "judge", judge, words)
    judge_command.add_argument(
        "--partition", action="append", metavar="KEY", help="only this partition; can be repeated; all if not given"
    )
    add_json(judge_command)
    command = add_command(commands, "history", history, "list what was decided, by whom, when and why")
    command.add_argument("--all", action="store_true", help="also the facts of every partition")
    command.add_argument("--json", action="store_true", help="one line of JSON for each record, for programs")
    words = "make target and registry say what the ledger says, and watch over a rollout"
    add_json(add_command(commands, "reconcile", reconcile_aliases, words))


def schema(_args: argparse.Namespace) -> None:
    """Print the JSON schema of declarations."""
    print(json.dumps(loop_schema(), indent=2))


def loop_schema() -> dict[str, Any]:
    """Return the JSON schema of declarations, for editors."""
    from airflow_mlops.core.declaration.loop import Loop

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A loop of airflow-mlops",
        **Loop.model_json_schema(by_alias=True),
    }


def check(args: argparse.Namespace) -> None:
    """Check a declaration, the files and packages that it refers to, and the candidates of its training function."""
    from airflow_mlops.core.check_declaration import check_declaration

    loop = loop_of(args)
    check_declaration(loop, args.root.resolve(), candidates=True, file=str(args.loop))
    warnings = waits_of_past_partitions(loop, args.root.resolve())
    lines = [f"{args.loop}: {loop.model} is well declared", *(f"warning: {sentence}" for sentence in warnings)]
    print_answer(args, {"model": loop.model, "warnings": warnings}, lines)


def waits_of_past_partitions(loop: Loop, root: Path) -> list[str]:
    """Return which stages partitions of the newest one's size keep waiting; nothing where no ledger can be read."""
    from airflow_mlops.core.rollout.plan_of_rollout import waits_of_rollout
    from airflow_mlops.hooks.workspace import WorkspaceHook

    hook = WorkspaceHook()
    try:
        hook.existing_ledger()
        published = hook.workspace(loop, root=root, actor=acting_person()).state().published
    except (DeclarationError, LedgerError):
        return []
    newest = published.newest()
    return [] if newest is None else waits_of_rollout(loop.rollout, published[newest].rows)


def list_loops(args: argparse.Namespace) -> None:
    """Print where every loop of a project stands."""
    print_loops(args.root, as_json=args.json)


def print_loops(folder: Path, *, as_json: bool = False) -> None:
    """Print a line for each loop that is declared below a project folder.

    Raises
    ------
    DeclarationError
        At the end, if a declaration cannot be read; or if there is no ledger.
    """
    from airflow_mlops.core.evaluation.gate_report import align_columns
    from airflow_mlops.hooks.workspace import WorkspaceHook

    root, hook = folder.resolve(), WorkspaceHook()
    loops, broken = declared_loops(folder)
    print(f"ledger: {hook.existing_ledger()}", file=sys.stderr)
    rows = [row_of(hook.workspace(loop, root=root, actor=acting_person())) for loop in loops.values()]
    if as_json:
        print("".join(f"{json.dumps(row)}\n" for row in rows), end="")
    elif rows:
        cells = [[str("-" if value is None else value) for value in row.values()] for row in rows]
        print(align_columns([[*rows[0]], *cells]))
    else:
        print(f"no loop is declared in include/loops/*.yaml or dags/*.py below {root}")
    if broken:
        raise DeclarationError("cannot be read: " + "; ".join(broken))


def row_of(workspace: Workspace) -> dict[str, str | int | None]:
    """Return where a loop stands, as a row of the list."""
    state = workspace.state()
    champion, rollout = state.champion, state.rollout
    return {
        "model": workspace.loop.model,
        "champion": champion.number if champion else None,
        "live since": state.promoted_at if champion else None,
        "newest partition": state.published.newest(),
        "refused": len(state.refused),
        "rollout": describe_rollout(rollout) if rollout else None,
        "under way": state.in_flight,
    }


def describe_rollout(rollout: OpenRollout) -> str:
    """Return the version of an open rollout, the kind of its stage and its share as text."""
    return f"version {rollout.version.number}, {rollout.kind} {rollout.share} %"


def status(args: argparse.Namespace) -> None:
    """Print where a loop stands, or the list of all loops."""
    if args.loop is None:
        print_loops(args.root, as_json=args.json)
        return
    from airflow_mlops.core.ledger.rollout_details import RolledBack
    from airflow_mlops.core.watch.judge_in_order import describe_out_of_order, partitions_out_of_order
    from airflow_mlops.hooks.workspace import WorkspaceHook

    workspace = workspace_of(args)
    state = workspace.state()
    champion, rollout = state.champion, state.rollout
    values: dict[str, Any] = {
        **row_of(workspace),
        "ledger": WorkspaceHook().existing_ledger(),
        "published": len(state.published),
        "retrains": len(state.retrains),
        "promotions": len(state.promotions),
        "rollbacks": sum(1 for _ in workspace.ledger.records(RolledBack)),
        "out of order": partitions_out_of_order(workspace),
        CHAMPIONS_DATA: [] if champion is None else corrected_since(state, champion),
        "quarantined": dict(state.quarantined.items()),
    }
    serving = f"version {champion.number}, live since {state.promoted_at}" if champion else "none"
    published = f"({values['published']} published, {values['refused']} refused)"
    lines = [
        f"ledger            {values['ledger']}",
        f"champion          {serving}",
        f"rollout           {describe_rollout(rollout) if rollout else 'none'}",
        f"under way         {state.in_flight or 'nothing'}",
        f"newest partition  {values['newest partition'] or 'none'}  {published}",
        f"retrains          {values['retrains']}, promotions {values['promotions']}, rollbacks {values['rollbacks']}",
    ]
    if values["out of order"]:
        lines.append(f"out of order      {describe_out_of_order(values['out of order'])}")
    if values[CHAMPIONS_DATA]:
        lines.append(f"champion's data   published anew since: {', '.join(values[CHAMPIONS_DATA])}")
    lines += [f"quarantined       version {number}: {reason}" for number, reason in values["quarantined"].items()]
    print_answer(args, values, lines)


def judge(args: argparse.Namespace) -> None:
    """Judge partitions that came out of order, in the order of their keys, and print each verdict."""
    from airflow_mlops.core.watch.judge_in_order import judge_in_order, partitions_out_of_order

    workspace = workspace_of(args)
    named = [partition_named(workspace, text) for text in args.partition or ()]
    judged = judge_in_order(workspace, named or partitions_out_of_order(workspace))
    lines = [
        f"{partition}  {name}: {check.verdict}: {check.message}"
        for partition, checks in judged.items()
        for name, check in checks.items()
    ]
    lines.append("the next decision on a retrain counts these verdicts" if judged else "no partition came out of order")
    values = {
        partition: {name: {"verdict": check.verdict, "message": check.message} for name, check in checks.items()}
        for partition, checks in judged.items()
    }
    print_answer(args, values, lines)


def corrected_since(state: LoopState, version: Version) -> list[str]:
    """Return the partitions that a version was fitted or judged on, and that now hold other content."""
    pins = ((pin, state.published.get(pin.partition)) for pin in version.details.window.pins)
    return sorted(pin.partition for pin, published in pins if published is not None and published.digest != pin.digest)


def history(args: argparse.Namespace) -> None:
    """Print the records of decisions and alarms, or all records, oldest first."""
    from airflow_mlops.core.ledger.rollout_details import Promoted
    from airflow_mlops.core.overview.sentences import describe_record, is_decision

    workspace = workspace_of(args)
    state = workspace.state()
    for record in workspace.ledger.records():
        details = record.details
        if not args.all and not is_decision(record):
            continue
        promoted = isinstance(details, Promoted)
        summary = why_promoted(workspace, state, details) if promoted else describe_record(record)
        if args.json:
            print(json.dumps({**record.to_json(), "summary": summary}))
            continue
        print(
            f"{record.sequence:>6}  {record.recorded_at[:19]}  {record.partition or '-':<19}  "
            f"{record.kind}  {summary}  [{record.actor}]"
        )


def why_promoted(workspace: Workspace, state: LoopState, promoted: Promoted) -> str:
    """Return the promoted version, the previous champion, the reason of its training and its approval as text."""
    decision = workspace.ledger.record(state.versions[promoted.version].details.decision)
    parts = [f"version {promoted.version}, before it {promoted.previous or 'none'}"]
    if decision is not None:
        parts.append(f"made because: {decision.details.reason} (record {decision.sequence})")
    approval = state.approved.get(promoted.version)
    if approval is not None:
        parts.append(f"approved by {approval.details.by}")
    return "; ".join(parts)


def reconcile_aliases(args: argparse.Namespace) -> None:
    """Make target and registry say what the ledger says, and take back a challenger that has to go."""
    from airflow_mlops.core.errors import RegistryError
    from airflow_mlops.core.rollout.inspect_versions import inspect_versions
    from airflow_mlops.core.rollout.watch_rollout import watch_rollout

    workspace = workspace_of(args)
    repairs = watch_rollout(workspace, workspace.state().published.newest() or "")
    inspection = inspect_versions(workspace)
    nothing = ["nothing to repair: who serves, and every alias, is what the ledger says"]
    values = {"repairs": list(repairs), **inspection.to_dict()}
    print_answer(args, values, [*repairs, *inspection.notices] or nothing)
    if inspection.problems:
        raise RegistryError("; ".join(inspection.problems))
