"""The seven model items of the ML Test Score."""

from __future__ import annotations

from statistics import median

from airflow_mlops.core.governance.ml_test_score.points import Items, Point, View, full_point, half_point, no_point
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.watch_details import PerformanceJudged
from airflow_mlops.core.training.code_state import code_state
from airflow_mlops.core.training.row_losses import relative_loss

AGREES = 0.25
"""Largest relative loss of served predictions against the holdout at which the two still agree."""
WINDOWS = 3
"""Fewest judged partitions, or comparisons of a champion with a fresh model, that give a point."""


def code_review(view: View) -> Point:
    """M1: the declaration and the code are in a repository, as they were reviewed."""
    if view.version is None:
        return no_point("there is no version yet")
    code = code_state(view.workspace.root)
    if code is None:
        return no_point("the project is in no git repository")
    function = view.workspace.loop.train.function.partition(":")[0].replace(".", "/") + ".py"
    where = (f"git show {code['commit']}", *view.file(function))
    return (
        half_point("in the repository, and changed since the commit", *where)
        if code["dirty"]
        else full_point(f"declaration and code are those of commit {code['commit'][:12]}", *where)
    )


def metrics_agree(view: View) -> Point:
    """M2: what the holdout promised is what serving gave."""
    records = [record for record in view.of_kind(PerformanceJudged) if record.details.worse_by is not None]
    if len(records) < WINDOWS:
        return no_point(f"{len(records)} served partitions were held against their labels; {WINDOWS} say something")
    middle = median(record.details.worse_by or 0.0 for record in records)
    metric = records[-1].details.metric
    reason = f"on {len(records)} served partitions {metric} was in the median {middle:+.0%} against the holdout"
    where = (view.record(records[0]), view.record(records[-1]))
    return full_point(reason, *where) if abs(middle) <= AGREES else half_point(f"{reason}: beyond {AGREES:.0%}", *where)


def tuning(view: View) -> Point:
    """M3: hyperparameters were searched for."""
    if view.version is None:
        return no_point("there is no version yet")
    report = view.workspace.evidence.get(str(view.version.details.report))
    searched = [candidate for candidate in report["candidates"] if candidate.get("search")]
    if searched:
        names = ", ".join(candidate["candidate"] for candidate in searched)
        methods = {"successive halving" if "Halving" in entry["search"]["method"] else "Optuna" for entry in searched}
        return full_point(f"{' and '.join(sorted(methods))} searched the parameters of {names}", view.report_of())
    if len(report["candidates"]) > 1:
        names = ", ".join(candidate["candidate"] for candidate in report["candidates"])
        return half_point(f"{names} were compared; no parameters were searched for", view.report_of())
    return no_point("one candidate, and no parameters to search")


def staleness(view: View) -> Point:
    """M4: what a stale model costs is known."""
    compared = [comparison for version in versions_of(view) if (comparison := stale_loss(view, version))]
    if len(compared) < WINDOWS:
        return no_point(f"{len(compared)} champions were compared with a fresh model; {WINDOWS} say something")
    loss = median(worse for worse, _ in compared)
    reason = f"a champion of {min(age for _, age in compared)} to {max(age for _, age in compared)} partitions"
    reason += f" was in the median {loss:+.1%} worse than a fresh model on the same rows"
    return full_point(reason, *(view.report_of(version) for version in versions_of(view)[-WINDOWS:]))


def versions_of(view: View) -> list[Version]:
    """Return all versions, oldest first."""
    return sorted((version for _, version in view.state.versions.items()), key=lambda version: int(version.number))


def stale_loss(view: View, version: Version) -> tuple[float, int] | None:
    """Return the relative loss of the champion against a fresh version, and the champion's age in partitions."""
    champion = view.state.versions.get(str(version.details.champion))
    evaluation = view.evaluation_of(version)
    metric = view.workspace.loop.metric
    value, champion_value = ((evaluation.get(metrics) or {}).get(metric) for metrics in ("metrics", "champion_metrics"))
    if champion is None or value is None or champion_value is None:
        return None
    keys = view.state.published.keys(after=champion.partition, until=version.partition)
    perfect = value == (1 if metric == "accuracy" else 0)
    return None if perfect else (relative_loss(metric, champion_value, value), len(keys))


def baselines(view: View) -> Point:
    """M5: a simpler model is not as good."""
    reports = view.evaluation.get("metric_reports", {}).get(view.workspace.loop.metric, {}).get("baselines") or {}
    measured = {name: report for name, report in reports.items() if report.get("value") is not None}
    if not measured:
        return no_point("no baseline was fitted")
    reason = ", ".join(f"{name} {report['value']:.4g} ({report['worse_by']:+.1%})" for name, report in measured.items())
    value = view.evaluation["metrics"][view.workspace.loop.metric]
    words = f"{view.workspace.loop.metric} {value:.4g}; baselines, and the candidate against them: {reason}"
    better = all(report["candidate_is_better"] for report in measured.values())
    return full_point(words, view.report_of()) if better else half_point(words, view.report_of())


def slices(view: View) -> Point:
    """M6: quality is sufficient on important slices."""
    by_column = view.evaluation.get("slices") or {}
    measured = [piece for column in by_column.values() for piece in column["slices"] if piece["verdict"] == "measured"]
    if not measured:
        return no_point("no slice is declared, or none had enough rows")
    gated = sorted({column for gate in view.workspace.loop.gates for column in gate.slices})
    reason = f"{len(measured)} slices of {', '.join(by_column)} were measured"
    return (
        full_point(f"{reason}; gates limit {', '.join(gated)}", view.report_of())
        if gated
        else half_point(f"{reason}; no gate limits any", view.report_of())
    )


def fairness(view: View) -> Point:
    """M7: the model was tested for fairness."""
    by_column = view.evaluation.get("fairness") or {}
    measured = [
        f"{measure} of {column} {estimate['value']:.3g}"
        for column, measures in by_column.items()
        for measure, estimate in measures.items()
        if estimate["value"] is not None
    ]
    return (
        full_point("; ".join(measured), view.report_of())
        if measured
        else no_point("no groups are declared, or too few have rows")
    )


ITEMS: Items = {
    "M1": ("declaration and code are reviewed and in the repository", code_review),
    "M2": ("offline and served metrics agree", metrics_agree),
    "M3": ("hyperparameters are tuned", tuning),
    "M4": ("the cost of staleness is known", staleness),
    "M5": ("no simpler model is as good", baselines),
    "M6": ("quality on slices", slices),
    "M7": ("fairness", fairness),
}
