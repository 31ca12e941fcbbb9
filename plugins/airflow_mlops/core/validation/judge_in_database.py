"""Judge a partition in its database, before its rows are fetched: the suite, and the checks against the history.

A partition that is refused here stays in its database: nothing of it is written. The rules and their order are those of
:mod:`airflow_mlops.core.validation.validate_snapshot`. One that is accepted is fetched in the same transaction, and the
expectations that it met are not checked again. Leakage of the label is judged on a sample of the fetched rows.
"""

from __future__ import annotations

import math
from functools import partial

from airflow_mlops.core.data.profiles.profile_rows import ProfileBins
from airflow_mlops.core.data.profiles.profile_snapshot import countable_columns, current_bins
from airflow_mlops.core.data.rows_in_database import RowCounts, RowsInDatabase
from airflow_mlops.core.data.take_snapshot import SnapshotManifest, record_refusal, take_snapshot
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ports.spans import span
from airflow_mlops.core.sources.sql_partition import NotAnsweredError
from airflow_mlops.core.validation.finding import Finding, describe_findings
from airflow_mlops.core.validation.history_checks import check_history
from airflow_mlops.core.validation.judge_history import HISTORY, load_profile
from airflow_mlops.core.validation.severities import describe_whole_failure, route_failures
from airflow_mlops.core.validation.sql_expectations import Answers, evaluate_suite
from airflow_mlops.core.validation.suite import read_suite
from airflow_mlops.core.validation.validate_snapshot import rules_digest
from airflow_mlops.core.workspace import Workspace


def take_judged_snapshot(workspace: Workspace, partition: str) -> SnapshotManifest:
    """Take a snapshot by the declared engine: with ``engine: sql``, of rows that their database judged before.

    Raises
    ------
    SourceMissingError
        If the source has no data yet.
    DataError
        If the data cannot be read or used; the refusal is recorded.
    """
    judge = partial(judge_in_database, workspace) if workspace.loop.engine == "sql" else None
    return take_snapshot(workspace, partition, judge=judge)


@span("judge_in_database")
def judge_in_database(workspace: Workspace, rows: RowsInDatabase) -> tuple[tuple[int, ...], str]:
    """Refuse rows that the suite or the history refuses, by the answers of their database.

    Returns
    -------
    tuple
        The positions of the expectations that the rows met, and the digest of the rules.

    Raises
    ------
    PartitionRefusedError
        If the rows are refused; the refusal is recorded as one of the validation.
    NotAnsweredError
        If the rows themselves are needed to judge them.
    SourceUnreachableError
        If the database is away.
    """
    data = workspace.loop.data
    counts = rows.count(data)
    rejected = counts.arrived - counts.good
    if rejected > data.tolerance * counts.arrived:
        raise NotAnsweredError("the contract refuses more rows than the tolerance allows")
    expectations = read_suite(workspace.root / data.expectations) if data.expectations else []
    answers = evaluate_suite(rows, expectations, counts.good)
    unanswered = [number for number in range(len(expectations)) if number not in answers.results]
    # What one of these says comes before the history, or counts with the others.
    if all(expectations[number].severity != "critical" for number in unanswered):
        findings = judge_profile(workspace, rows, counts)
        with record_refusal(workspace, rows.partition, "validation"):
            refuse_by_answers(answers, counts, data.tolerance, findings)
    met = tuple(number for number, result in answers.results.items() if result.success)
    return met, rules_digest(workspace, expectations)


def judge_profile(workspace: Workspace, rows: RowsInDatabase, counts: RowCounts) -> list[Finding]:
    """Return the critical findings of the history about the profile of rows in their database.

    Without bins for each column there is no profile yet, and the fetched rows are judged. So is a mean of the label
    that is too near its limit for the order of additions.
    """
    data = workspace.loop.data
    bins = current_bins(workspace, rows.state)
    names = countable_columns(workspace, list(rows.shape.columns))
    if any(name not in bins.columns or rows.kind(name) is None for name in names):
        return []
    published = workspace.state(before=rows.partition).published
    earlier = [load_profile(workspace, str(published[key].profile)) for key in published.last(HISTORY)]
    if len(earlier) < data.checks.at_least:
        return []
    profile = rows.profile(ProfileBins(bins.kinds, {name: bins.columns[name] for name in names}), counts)
    findings = check_history(profile, earlier, data.checks, label=data.label)
    failed = [finding for finding in findings if finding.verdict == "fail" and finding.severity == "critical"]
    return [] if any(map(_is_near, failed)) else failed


def _is_near(finding: Finding) -> bool:
    """Return whether the mean of the label is so near its limit that the order of additions may decide."""
    if finding.check != "label" or finding.value is None or finding.limit is None:
        return False
    return math.isclose(finding.value, finding.limit, rel_tol=1e-9, abs_tol=1e-12)


def refuse_by_answers(answers: Answers, counts: RowCounts, tolerance: float, findings: list[Finding]) -> None:
    """Raise PartitionRefusedError if the answers refuse a partition, in the order in which rows are judged.

    Rows that the contract refuses are bad, too; too many of both are refused where the rows are read, which tells the
    most frequent reason of all.
    """
    routed = route_failures(answers.results.values())
    bad = answers.bad + counts.arrived - counts.good
    if answers.bad and bad > tolerance * counts.arrived and not routed.critical_whole:
        if bad > answers.bad:
            return
        reasons: dict[str, int] = {}
        for result in routed.critical_rows:
            reasons[result.reason] = reasons.get(result.reason, 0) + result.unexpected
        worst = max(reasons, key=lambda reason: reasons[reason])
        raise PartitionRefusedError(
            f"{bad:,} of {counts.arrived:,} rows are bad ({bad / counts.arrived:.2%}); the declared tolerance is "
            f"{tolerance:.2%}; most often {worst} ({reasons[worst]:,} row{'s' if reasons[worst] > 1 else ''}); all of "
            "them are in the database, and no row was fetched"
        )
    for result in routed.critical_whole:
        raise PartitionRefusedError(describe_whole_failure(result))
    if findings:
        raise PartitionRefusedError(describe_findings(findings))
