"""The model card of a version: what it is for, made from, good at, bad at, and what became of it.

The card of the time of registration is kept as evidence; asked for later, it is made anew with the approvals and
the rollout history since. What it lacks is named on top: a policy may ask for a complete card.
"""

from __future__ import annotations

from airflow_mlops.core.governance.card_evaluation import evaluation_sections, gaps_in_evaluation
from airflow_mlops.core.governance.environment_change import installed_otherwise
from airflow_mlops.core.governance.reproduce_version import request_of, version_called
from airflow_mlops.core.ledger import rollout_details as rollout
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.record import AnyRecord
from airflow_mlops.core.ledger.rollout_details import Promoted
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import CardWritten, Reproduced, Superseded
from airflow_mlops.core.report.page_parts import ModelCard, Section, Table
from airflow_mlops.core.rollout.offline_and_online import offline_in_words
from airflow_mlops.core.workspace import Workspace

HISTORY: tuple[type[Details], ...] = (
    rollout.Approved,
    rollout.ApprovalVoid,
    rollout.Rejected,
    rollout.RolloutStarted,
    rollout.StageEntered,
    rollout.StageAnalysed,
    rollout.Promoted,
    rollout.RolledBack,
    rollout.QuarantineLifted,
    Superseded,
    Reproduced,
)
"""Kinds of records that a card lists of its version."""


def model_card(workspace: Workspace, number: str) -> ModelCard:
    """Return the card of a version as of now.

    Raises
    ------
    ReproductionError
        If there is no such version.
    """
    version = version_called(workspace, number)
    report = workspace.evidence.get(str(version.details.report))
    judged = next(one for one in report["candidates"] if one["candidate"] == version.details.candidate)
    sections = [
        _purpose(workspace, version),
        *evaluation_sections(report, judged),
        _limits(workspace, version),
        _data(workspace, version),
        _lineage(workspace, version),
        _history(workspace, version),
    ]
    missing = [] if workspace.loop.purpose else ["purpose: declare `purpose`"]
    missing += gaps_in_evaluation(judged)
    return ModelCard(f"Model card: {workspace.loop.model}, version {number}", tuple(sections), tuple(missing))


def write_model_card(workspace: Workspace, number: str) -> ModelCard:
    """Return the card of a version; kept as evidence if none is, or if the one that is kept lacks other things."""
    card, kept = model_card(workspace, number), workspace.state().cards.get(number)
    if kept is None or kept.details.missing != card.missing:
        operation = f"card:{number}" + (f":{kept.sequence}" if kept else "")
        details = CardWritten(version=number, missing=card.missing)
        evidence = (workspace.evidence.put(card.to_dict()),)
        partition = version_called(workspace, number).partition
        workspace.record_fact(workspace.draft(details, operation, partition, evidence=evidence))
    return card


def records_about(ledger: Ledger, version: str) -> list[AnyRecord]:
    """Return the records of :data:`HISTORY` that are about a version, oldest first."""
    return [
        record
        for record in ledger.records(*HISTORY)
        if version in (getattr(record.details, "version", None), getattr(record.details, "champion", None))
    ]


def _purpose(workspace: Workspace, version: Version) -> Section:
    loop = workspace.loop
    kind = "the probability of class 1 of" if loop.classifies else "the value of"
    return Section(
        "What it is for",
        (
            loop.purpose or "The declaration does not say.",
            f"It predicts {kind} {loop.data.label!r}, one number for each row.",
            f"Owner: {loop.owner}. Tier: {loop.tier}. Candidate {version.details.candidate!r} of "
            f"{loop.train.function}, made as of {version.partition}.",
        ),
    )


def _limits(workspace: Workspace, version: Version) -> Section:
    window = version.details.window
    first, last = window.fitted[0].partition, window.fitted[-1].partition
    held = ", ".join(pin.partition for pin in window.holdout)
    watched = workspace.loop.watch
    watch = "drift of its inputs" * bool(watched.drift) + ", " * bool(watched.drift and watched.performance)
    watch += "its error once labels arrive" * bool(watched.performance)
    return Section(
        "Limits",
        (
            f"It has seen rows of {first} to {last} and nothing else; it was judged on {held} only. About other times, "
            "and rows unlike those, the figures here say nothing.",
            f"While it serves, this is watched: {watch}." if watch else "While it serves, nothing is watched.",
        ),
    )


def _data(workspace: Workspace, version: Version) -> Section:
    window = version.details.window
    state = workspace.state()
    rows = []
    for part, use in (("fitted", "fitted"), ("holdout", "judged")):
        for pin in getattr(window, part):
            published = state.published.get(pin.partition)
            same = published is not None and published.digest == pin.digest
            since = "the same now" if same else "published anew since" if published else "not kept any more"
            rows.append((pin.partition, use, str(pin.version), pin.digest, since))
    head = ("partition", "used to be", "snapshot version", "digest of the content", "today")
    contract = f"Contract: {workspace.loop.data.contract}." if workspace.loop.data.contract else "No contract."
    return Section("Data", (contract,), (Table(head, tuple(rows)),))


def _lineage(workspace: Workspace, version: Version) -> Section:
    details, request = version.details, request_of(workspace, version)
    code = getattr(request, "code", None) or {}
    signature = details.signature.digest if details.signature else "not signed"
    facts = [
        ("request", details.request),
        ("function", request.function),
        ("digest of the code", request.source),
        ("commit", str(code.get("commit", "no repository")) + (" and changes" if code.get("dirty") else "")),
        ("seed", str(request.seed)),
        ("model file", details.artefact),
        ("signature", signature),
        ("rows fitted on", f"{details.rows:,}"),
        ("seconds of the fit", str(details.fit_seconds)),
        ("evaluation report", str(details.report)),
        ("profile of the window", str(details.profile)),
    ]
    facts += [("sbom", details.sbom)] if details.sbom else []
    facts += [(f"parameter {name}", str(value)) for name, value in sorted(details.best_params.items())]
    return Section("Lineage", (_installed(workspace, version),), (Table(("what", "value"), tuple(facts)),))


def _installed(workspace: Workspace, version: Version) -> str:
    found = installed_otherwise(workspace, version)
    if found is None:
        return "What is installed could not be compared with another version."
    before, changes = found
    return f"Installed otherwise than for version {before}: {'; '.join(changes) or 'nothing'}."


def _history(workspace: Workspace, version: Version) -> Section:
    decided = workspace.ledger.record(version.details.decision)
    rows = [] if decided is None else [_row(decided, f"a retrain was decided: {decided.details.reason}")]
    rows += [
        _row(record, f"{record.kind.replace('_', ' ')}: {_summarise(record.details)}")
        for record in records_about(workspace.ledger, version.number)
    ]
    return Section("Approvals and rollout", (), (Table(("record", "partition", "what", "by"), tuple(rows)),))


def _summarise(details: Details) -> str:
    """Return the details of a record in a few words."""
    values = details.to_json()
    previous = values.get("previous") or "none"
    parts = [
        values.get("name") or values.get("kind"),
        values.get("verdict"),
        values.get("reason"),
        f"before it {previous}" if isinstance(details, Promoted) else None,
        f"by {values['by']}" if values.get("by") else None,
        offline_in_words(values.get("offline")),
    ]
    return ", ".join(str(part) for part in parts if part) or f"version {values.get('version')}"


def _row(record: AnyRecord, words: str) -> tuple[str, ...]:
    return (str(record.sequence), record.partition or "-", words, record.actor)
