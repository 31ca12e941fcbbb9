"""Everything that the page of a model shows, read from its ledger and the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import quote

from airflow_mlops.core.charts.boundary_chart import boundary_chart
from airflow_mlops.core.charts.cost_chart import cost_chart
from airflow_mlops.core.charts.gate_chart import gate_chart
from airflow_mlops.core.charts.heat_map import heat_map
from airflow_mlops.core.charts.loop_drawing import LoopNode, loop_drawing
from airflow_mlops.core.charts.metric_chart import metric_chart
from airflow_mlops.core.charts.sparkline import sparkline
from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.rollout_details import RolloutStarted, StageAnalysed
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import CandidateRefused
from airflow_mlops.core.ledger.watch_details import ReportRendered
from airflow_mlops.core.overview.model_history import (
    candidate_gates,
    decision_marks,
    drift_map,
    gates_of,
    metric_points,
    rollout_looks,
)
from airflow_mlops.core.overview.model_summary import ModelSummary, summarise_model
from airflow_mlops.core.overview.retrain_costs import retrain_costs
from airflow_mlops.core.overview.sentences import describe_record, is_decision, tone_of
from airflow_mlops.ui.airflow_facts import LoopFacts
from airflow_mlops.ui.page_templates import svg
from airflow_mlops.ui.replay_view import newest_replays

DECISIONS, RECORDS_READ, PAGE_RECORDS = 40, 2_000, 100
PARTITIONS = 12


@dataclass(frozen=True)
class TimelineRecord:
    """A record as the page shows it."""

    sequence: int
    recorded_at: str
    partition: str | None
    actor: str
    tone: str
    sentence: str

    @classmethod
    def of(cls, record: Record[Any]) -> TimelineRecord:
        """Return a record with its sentence."""
        return cls(
            record.sequence,
            record.recorded_at,
            record.partition,
            record.actor,
            tone_of(record),
            describe_record(record),
        )


def list_row(summary: ModelSummary, facts: LoopFacts) -> dict[str, Any]:
    """Return a line of the list of models."""
    state, reason = state_with_runs(summary, facts)
    alarms = [alarm for _, _, alarm in summary.values]
    spark = sparkline([value for _, value, _ in summary.values], name=summary.metric, alarms=alarms)
    return {"summary": summary, "facts": facts, "state": state, "reason": reason, "spark": svg(spark)}


def state_with_runs(summary: ModelSummary, facts: LoopFacts) -> tuple[str, str]:
    """Return the state of a loop and its reason, where also the runs of its Dags count."""
    if facts.failed and summary.state != "failing":
        run = facts.failed[0]
        return "failing", f"the newest run of {run.dag_id} failed: {run.run_id}"
    if facts.approvals and summary.state not in ("failing", "held"):
        return "held", facts.approvals[0].subject
    return summary.state, summary.reason


def model_view(
    ledger: Ledger, state: LoopState, evidence: EvidenceStore, facts: LoopFacts, root: str
) -> dict[str, Any]:
    """Return the values of the page of a model; ``root`` is the address below which the pages are.

    Raises
    ------
    LedgerError
        If the ledger cannot be read.
    """
    summary = summarise_model(ledger, state)
    name, reason = state_with_runs(summary, facts)
    # The links of a picture are many, so they are relative to the page.
    page, histogram = f"{root}/models/{summary.model}", f"{summary.model}/histogram"
    points = metric_points(state, lambda partition: f"{root}/reports/{summary.model}/{quote(partition)}")
    drawn_from = points[0].label if points else ""
    records = partial(record_address, page)
    marks = decision_marks(ledger, drawn_from, records)
    costs = retrain_costs(ledger, state)
    drift = drift_map(
        state,
        evidence,
        lambda partition, column: f"{histogram}?partition={partition}&column={quote(column, safe='')}",
    )
    gates, lost = gate_pictures(ledger, state, evidence)
    return {
        "summary": summary,
        "state": name,
        "reason": reason,
        "facts": facts,
        "alarms": summary.alarms,
        "drawing": svg(loop_drawing(loop_nodes(state, summary))),
        "points": points[::-1],
        "chart": svg(metric_chart(points, marks, metric=summary.metric)),
        "heat": svg(heat_map(drift.columns, drift.partitions, drift.cells)),
        "lost": [*drift.lost, *lost],
        "gate_pictures": gates,
        "costs": costs,
        "cost_picture": svg(cost_chart(costs.points(records), limit=costs.limit)),
        "rollout": rollout_view(ledger, state),
        "partitions": partition_rows(ledger, state, f"{root}/reports/{summary.model}"),
        "lineage": lineage_of(ledger, state, evidence),
        "replays": newest_replays(ledger),
        "records": newest_decisions(ledger),
    }


def record_address(page: str, sequence: int) -> str:
    """Return the address of a record, the first on its page, given the address of the model's page."""
    return f"{page}/records?before={sequence + 1}"


def loop_nodes(state: LoopState, summary: ModelSummary) -> list[LoopNode]:
    """Return the stages of the loop with their states."""
    refused, failure = summary.refused, summary.failed
    newest, scored = state.published.newest(), state.scored.newest()
    behind = newest is not None and state.champion is not None and scored is not None and scored < newest
    rollout, champion = state.rollout, state.champion
    return [
        LoopNode("ingest", "bad" if refused else "good" if newest else "idle", (newest or "nothing yet")[:10], "#data"),
        LoopNode("score", "busy" if behind else "good" if scored else "idle", (scored or "nothing yet")[:10], "#data"),
        LoopNode(
            "watch",
            "bad" if summary.alarms else "good" if scored else "idle",
            f"{len(summary.alarms)} alarms" if summary.alarms else "no alarm",
            "#drift",
        ),
        LoopNode(
            "train",
            "busy" if state.open_decision else "bad" if failure else "good" if champion or state.candidate else "idle",
            "under way" if state.open_decision else "failed" if failure else "at rest",
            "#gates",
        ),
        LoopNode(
            "roll out",
            "bad" if rollout and rollout.failed else "busy" if rollout or state.candidate else "idle",
            f"{rollout.kind} {rollout.share} %" if rollout else "waits" if state.candidate else "at rest",
            "#rollout",
        ),
        LoopNode(
            "serve", "good" if champion else "idle", f"version {champion.number}" if champion else "nobody", "#lineage"
        ),
    ]


def gate_pictures(ledger: Ledger, state: LoopState, evidence: EvidenceStore) -> tuple[list[Any], list[str]]:
    """Return title, picture and gates of champion, waiting version and newest refusal; and what evidence is lost."""
    titles = [("Champion", state.champion), ("Waiting", state.candidate)]
    titles.append(("Challenger", None if state.rollout is None else state.rollout.version))
    pictures, lost = [], []
    for title, version in titles:
        if version is None:
            continue
        try:
            gates = gates_of(version, evidence)
        except LedgerError as error:
            lost.append(str(error))
            continue
        pictures.append((f"{title}: version {version.number}", svg(gate_chart(gates)), gates))
    refused = next(ledger.records(CandidateRefused, newest_first=True), None)
    if refused is not None and refused.details.report:
        try:
            report = evidence.get(refused.details.report)
            gates = candidate_gates(report, str(report.get("best", "")))
            pictures.append((f"Refused as of {refused.partition}", svg(gate_chart(gates)), gates))
        except LedgerError as error:
            lost.append(str(error))
    return pictures, lost


def rollout_view(ledger: Ledger, state: LoopState) -> dict[str, Any] | None:
    """Return the rollout under way, or the newest one, with its plan and the pictures of its analyses."""
    started = next(ledger.records(RolloutStarted, newest_first=True), None)
    if started is None:
        return None
    looks = rollout_looks(ledger.records(StageAnalysed, after=started.sequence), started.sequence)
    version, rollout = started.details.version, state.rollout
    title = f"The newest rollout was of version {version}, as of {started.partition}."
    if rollout is not None:
        paused = f", paused: {rollout.paused}" if rollout.paused else ""
        title = f"Version {version} is at {rollout.kind} with {rollout.share} % of the keys{paused}."
    pictures = [
        (f"{step.step}, {step.metric}", svg(boundary_chart(step.looks, name=f"{step.step}, {step.metric}")))
        for step in looks
    ]
    return {"title": title, "plan": started.details.plan, "pictures": pictures}


def partition_rows(ledger: Ledger, state: LoopState, reports: str) -> list[dict[str, Any]]:
    """Return the newest partitions, newest first: rows, quarantine, who scored them, labels, and their reports."""
    newest = dict(state.published.newest_first(limit=PARTITIONS))
    refused = dict(state.refused.newest_first(limit=PARTITIONS))
    oldest = min(newest, default="")
    rendered: dict[str, set[str]] = {}
    for record in islice(ledger.records(ReportRendered, newest_first=True), 4 * PARTITIONS):
        rendered.setdefault(str(record.partition), set()).add(record.details.engine)
    rows = []
    for key in sorted({*newest, *(key for key in refused if key >= oldest)}, reverse=True):
        published, refusal = newest.get(key), refused.get(key)
        scored, measured = state.scored.get(key), state.performance.get(key)
        address = f"{reports}/{quote(key)}"
        addresses = {"own": ("report", address), "evidently": ("Evidently", f"{address}/evidently")}
        rows.append(
            {
                "partition": key,
                "rows": published.rows if published else None,
                "quarantined": published.quarantined if published else None,
                "refused": refusal is not None,
                "why": f"refused: {refusal.reason}" if refusal else "; ".join(published.warnings if published else ()),
                "scored_by": f"version {scored.champion}" if scored else "not scored",
                "labelled": labelled_share(measured, scored),
                "reports": [addresses[engine] for engine in sorted(rendered.get(key, ()), reverse=True)],
            }
        )
    return rows


def labelled_share(measured: Any, scored: Any) -> str:
    """Return how many scored rows have a label, in words."""
    if scored is None:
        return "–"
    if measured is None or not measured.scored:
        return "not measured"
    return f"{(measured.rows or 0) / measured.scored:.0%} of {measured.scored:,}"


def lineage_of(ledger: Ledger, state: LoopState, evidence: EvidenceStore) -> list[tuple[str, str]]:
    """Return where the champion comes from: decision, rows, code, file, approval; empty where there is none."""
    champion = state.champion
    if champion is None:
        return []
    details = champion.details
    decision = ledger.record(details.decision)
    fitted, holdout, origin = details.trained_on.fitted, details.window.holdout, details.adopted
    approval = state.approved.get(champion.number)
    values = [
        ("version", f"{champion.number}, candidate {details.candidate}, as of {champion.partition}"),
        ("recalled", "" if champion.recall is None else f"as of {champion.recall.partition}"),
        ("decided", f"record {details.decision}: {decision.details.reason}" if decision else "unknown"),
        (
            "adopted from",
            "" if origin is None else f"version {origin.version} of {origin.environment}: {origin.reason}",
        ),
        ("fitted on", f"{details.rows:,} rows of {len(fitted)} partitions" + span_of(fitted)),
        ("judged on", f"{len(holdout)} partitions" + span_of(holdout)),
        ("data versions", ", ".join(f"{pin.partition[:10]} v{pin.version}" for pin in fitted[-6:])),
        ("code", code_of(champion, evidence)),
        ("kept at", details.source or "unknown"),
        ("model file", f"SHA-256 {details.artefact}"),
        ("signed by", details.signature.key if details.signature else "nobody"),
        ("approved by", approval.details.by if approval else "no approval was needed or given"),
        ("serves since", str(state.promoted_at)),
    ]
    return [(name, value) for name, value in values if value]


def code_of(version: Version, evidence: EvidenceStore) -> str:
    """Return the training function of a version, the digest of its source, and its commit where it is known."""
    if version.details.report is None:
        return "unknown"
    try:
        request = evidence.get(version.details.report).get("request", {})
    except LedgerError as error:
        return f"unknown: {error}"
    code = request.get("code") or {}
    commit = f", commit {str(code['commit'])[:12]}" if code.get("commit") else ""
    dirty = " with changes" if code.get("dirty") else ""
    return f"{request.get('function', 'unknown')}, source {str(request.get('source', 'unknown'))[:12]}{commit}{dirty}"


def span_of(pins: tuple[Any, ...]) -> str:
    """Return the first and last partition of a window in words."""
    keys = sorted(pin.partition for pin in pins)
    return f", {keys[0]} to {keys[-1]}" if keys else ""


def newest_decisions(ledger: Ledger) -> list[TimelineRecord]:
    """Return the newest decisions and alarms, newest first."""
    records = islice(ledger.records(newest_first=True), RECORDS_READ)
    return [TimelineRecord.of(record) for record in islice(filter(is_decision, records), DECISIONS)]


def record_page(ledger: Ledger, before: int | None) -> tuple[list[TimelineRecord], int | None]:
    """Return a page of records before a number, newest first, and the number before which older ones are."""
    head = ledger.head().sequence
    last = head if before is None else min(before - 1, head)
    first = max(last - PAGE_RECORDS, 0)
    records = [TimelineRecord.of(record) for record in islice(ledger.records(after=first), last - first)]
    return records[::-1], first + 1 if first else None
