"""The commands of ``airflow-mlops`` about a declaration and what its ledger says."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.asked_loop import add_command, loop_of, workspace_of
from airflow_mlops.core.check_declaration import check_declaration
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.ledger.fold import fold

if TYPE_CHECKING:
    from airflow_mlops.cli.asked_loop import Commands
    from airflow_mlops.core.ledger.record import Record
    from airflow_mlops.core.ledger.state import LoopState, Version

SHOWN_KINDS = frozenset({
    "partition_refused", "retrain_decided", "training_failed", "candidate_refused", "candidate_registered",
    "rollout_started", "stage_analysed", "promoted", "rolled_back", "superseded", "approved", "rejected",
    "approval_void", "quarantine_lifted", "reproduced", "escalated",
})  # fmt: skip


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    commands.add_parser("schema", help="print the JSON schema of declarations").set_defaults(run=schema)
    add_command(commands, "check", check, "read a declaration and say what is wrong with it")
    add_command(commands, "status", status, "say where a loop stands")
    told = add_command(commands, "history", history, "list what was decided, by whom, when and why")
    told.add_argument("--all", action="store_true", help="also the facts of every partition")
    add_command(
        commands,
        "reconcile",
        reconcile_aliases,
        "make target and registry say what the ledger says, and watch over a rollout",
    )


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
    """Check a declaration, and the files and packages that it refers to."""
    loop = loop_of(asked)
    check_declaration(loop, asked.root.resolve(), file=str(asked.loop))
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
    corrected = [] if champion is None else corrected_since(state, champion)
    if corrected:
        print(f"champion's data   published anew since: {', '.join(corrected)}")
    for version, reason in state.quarantined.items():
        print(f"quarantined       version {version}: {reason}")


def corrected_since(state: LoopState, version: Version) -> list[str]:
    """Return the partitions that a version was fitted or judged on, and that now hold other content."""
    window = version.details["window"]
    return sorted(
        str(pin["partition"])
        for pin in [*window["fitted"], *window["holdout"]]
        if pin["partition"] in state.published and state.published[pin["partition"]]["digest"] != pin["digest"]
    )


def history(asked: argparse.Namespace) -> None:
    """Print the records of decisions, or all records, oldest first."""
    records = workspace_of(asked).ledger.records()
    state = fold(records)
    for record in records:
        quiet = record.kind == "retrain_decided" and not record.details["retrain"]
        if asked.all or (record.kind in SHOWN_KINDS and not quiet):
            said = why_promoted(record, state) if record.kind == "promoted" else said_in(record)
            print(
                f"{record.sequence:>6}  {record.recorded_at[:19]}  {record.partition or '-':<19}  "
                f"{record.kind}  {said}  [{record.actor}]"
            )


def why_promoted(record: Record, state: LoopState) -> str:
    """Return which version became the champion, in whose place, why it was made and who approved it."""
    number = str(record.details["version"])
    decided = state.versions[number].details.get("decision")
    cause = next((one for one in state.decisions if one.sequence == decided), None)
    parts = [f"version {number}, before it {record.details['previous'] or 'none'}"]
    if cause is not None:
        parts.append(f"made because: {cause.details['reason']} (record {cause.sequence})")
    if number in state.approved:
        parts.append(f"approved by {state.approved[number].details['by']}")
    return "; ".join(parts)


def said_in(record: Record) -> str:
    """Return what a record says, in a few words."""
    details = record.details
    if record.kind == "snapshot_published":
        outdated = details.get("outdated")
        parts = [f"{details['rows']} rows, {details['quarantined']} in quarantine", *details["warnings"]]
        return "; ".join([*parts, f"made before it: version {', '.join(outdated)}"] if outdated else parts)
    if record.kind == "predictions_published":
        return f"{details['rows']} rows by champion {details['champion']}"
    version = f"version {details['version']}" if "version" in details else ""
    verdict, reason = str(details.get("verdict", "")), str(details.get("reason", ""))
    if record.kind == "rolled_back":
        reason += f"; version {details['champion']} serves instead" if "champion" in details else "; the champion stays"
    words = (version, "" if reason.startswith(verdict) else verdict, reason)
    return " ".join(word for word in words if word)


def reconcile_aliases(asked: argparse.Namespace) -> None:
    """Make target and registry say what the ledger says, and take back a challenger that has to go."""
    from airflow_mlops.core.errors import RegistryError
    from airflow_mlops.core.rollout.inspect_versions import inspect_versions
    from airflow_mlops.core.rollout.watch_rollout import watch_rollout

    workspace = workspace_of(asked)
    repairs = watch_rollout(workspace, max(workspace.state().published, default=""))
    found = inspect_versions(workspace)
    print(
        "\n".join([*repairs, *found.notices])
        or "nothing to repair: who serves, and every alias, is what the ledger says"
    )
    if found.problems:
        raise RegistryError("; ".join(found.problems))
