"""The model card of a version: purpose, evaluation, limits, data, lineage, approvals and rollout.

The card as of registration is stored as evidence; a card requested later includes the approvals and the rollout
history since. It lists first what it lacks: a policy may require a complete card.
"""

from __future__ import annotations

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.governance.card_evaluation import evaluation_sections, gaps_in_evaluation
from airflow_mlops.core.governance.environment_change import compare_environments
from airflow_mlops.core.governance.reproduce_version import find_version, request_of
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
    version = find_version(workspace, number)
    report = workspace.evidence.get(str(version.details.report))
    candidate = next(entry for entry in report["candidates"] if entry["candidate"] == version.details.candidate)
    sections = [
        _purpose(workspace, version),
        *evaluation_sections(report, candidate),
        _limits(workspace, version),
        _data(workspace, version),
        _lineage(workspace, version),
        _history(workspace, version),
    ]
    missing = [] if workspace.loop.purpose else ["purpose: declare `purpose`"]
    missing += gaps_in_evaluation(candidate)
    return ModelCard(f"Model card: {workspace.loop.model}, version {number}", tuple(sections), tuple(missing))


def write_model_card(workspace: Workspace, number: str) -> ModelCard:
    """Return the card of a version, and store it as evidence if there is none or the list of gaps has changed."""
    card, record = model_card(workspace, number), workspace.state().cards.get(number)
    if record is None or record.details.missing != card.missing:
        operation = f"card:{number}" + (f":{record.sequence}" if record else "")
        details = CardWritten(version=number, missing=card.missing)
        evidence = (workspace.evidence.put(card.to_dict()),)
        partition = find_version(workspace, number).partition
        workspace.record_fact(workspace.draft(details, operation, partition, evidence=evidence))
    return card


def records_about(ledger: Ledger, version: str) -> list[AnyRecord]:
    """Return the records of :data:`HISTORY` that are about a version, oldest first."""
    return [
        record
        for record in ledger.records(*HISTORY)
        if version in (getattr(record.details, "version", None), getattr(record.details, "champion", None))
    ]


def _predicted(loop: Loop) -> str:
    """Return the quantity that a version predicts, in words before the name of the label."""
    names = loop.class_names
    if not loop.classifies:
        listed = ", ".join(f"{quantile:g}" for quantile in loop.train.quantiles)
        return f"the quantiles {listed} of" if listed else "the value of"
    if names is None:
        return "the probability of class 1 of"
    return f"the classes {', '.join(names)} of" if loop.several_classes else f"the probability of {names[1]!r} of"


def _purpose(workspace: Workspace, version: Version) -> Section:
    loop = workspace.loop
    kind, number = _predicted(loop), "one number of each" if loop.train.quantiles else "one number"
    answer = "one probability of each" if loop.several_classes else number
    return Section(
        "What it is for",
        (
            loop.purpose or "The declaration does not say.",
            f"It predicts {kind} {loop.data.label!r}, {answer} for each row.",
            f"Owner: {loop.owner}. Tier: {loop.tier}. Candidate {version.details.candidate!r} of "
            f"{loop.train.function}, made as of {version.partition}.",
        ),
    )


def _limits(workspace: Workspace, version: Version) -> Section:
    window = version.details.trained_on
    first, last = window.fitted[0].partition, window.fitted[-1].partition
    holdout = ", ".join(pin.partition for pin in window.holdout)
    declared = workspace.loop.watch
    watch = "drift of its inputs" * bool(declared.drift) + ", " * bool(declared.drift and declared.performance)
    watch += "its error once labels arrive" * bool(declared.performance)
    return Section(
        "Limits",
        (
            f"It has seen rows of {first} to {last} and nothing else; it was judged on {holdout} only. About other "
            "times, and rows unlike those, the figures here say nothing.",
            f"While it serves, this is watched: {watch}." if watch else "While it serves, nothing is watched.",
        ),
    )


def _data(workspace: Workspace, version: Version) -> Section:
    window, origin = version.details.trained_on, version.details.adopted
    state = workspace.state()
    where = "" if origin is None else f" in {origin.environment}"
    parts = [("fitted" + where, window.fitted), ("judged" + where, window.holdout)]
    parts += [] if origin is None else [("judged here", version.details.window.holdout)]
    rows = []
    for use, pins in parts:
        for pin in pins:
            published = state.published.get(pin.partition)
            unchanged = published is not None and published.digest == pin.digest
            status = "the same now" if unchanged else "published anew since" if published else "not kept any more"
            rows.append((pin.partition, use, str(pin.version), pin.digest, status))
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
    origin = details.adopted
    if origin is not None:
        facts += [
            ("adopted from", f"version {origin.version} of {origin.environment}, whose partitions are named above"),
            ("judged here", origin.reason),
            ("digest of the manifest", origin.archive),
        ]
    facts += [(f"parameter {name}", str(value)) for name, value in sorted(details.best_params.items())]
    return Section("Lineage", (_environment_text(workspace, version),), (Table(("what", "value"), tuple(facts)),))


def _environment_text(workspace: Workspace, version: Version) -> str:
    comparison = compare_environments(workspace, version)
    if comparison is None:
        return "What is installed could not be compared with another version."
    before, changes = comparison
    return f"Installed otherwise than for version {before}: {'; '.join(changes) or 'nothing'}."


def _history(workspace: Workspace, version: Version) -> Section:
    decision = workspace.ledger.record(version.details.decision)
    rows = [] if decision is None else [_row(decision, f"a retrain was decided: {decision.details.reason}")]
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
