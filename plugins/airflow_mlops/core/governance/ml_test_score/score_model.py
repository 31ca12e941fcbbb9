"""Model: was it chosen well, and is it good for everybody?"""

from __future__ import annotations

from statistics import median

from airflow_mlops.core.governance.ml_test_score.points import Items, Point, View, full, half, none
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.watch_details import PerformanceJudged
from airflow_mlops.core.training.code_state import code_state
from airflow_mlops.core.training.row_losses import relative_loss

AGREES = 0.25
"""Relative loss between the holdout and what was served up to which the two agree."""
WINDOWS = 3
"""Judged partitions, or comparisons of a champion with a fresh model, that say something."""


def reviewed(view: View) -> Point:
    """M1: the declaration and the code are in a repository, as they were reviewed."""
    if view.version is None:
        return none("there is no version yet")
    code = code_state(view.workspace.root)
    if code is None:
        return none("the project is in no git repository")
    function = view.workspace.loop.train.function.partition(":")[0].replace(".", "/") + ".py"
    where = (f"git show {code['commit']}", *view.file(function))
    return half("in the repository, and changed since the commit", *where) if code["dirty"] else full(
        f"declaration and code are those of commit {code['commit'][:12]}", *where
    )  # fmt: skip


def metrics_agree(view: View) -> Point:
    """M2: what the holdout promised is what serving gave."""
    judged = [record for record in view.of_kind(PerformanceJudged) if record.details.worse_by is not None]
    if len(judged) < WINDOWS:
        return none(f"{len(judged)} served partitions were held against their labels; {WINDOWS} say something")
    middle = median(record.details.worse_by or 0.0 for record in judged)
    metric = judged[-1].details.metric
    said = f"on {len(judged)} served partitions {metric} was in the median {middle:+.0%} against the holdout"
    where = (view.record(judged[0]), view.record(judged[-1]))
    return full(said, *where) if abs(middle) <= AGREES else half(f"{said}: beyond {AGREES:.0%}", *where)


def tuned(view: View) -> Point:
    """M3: hyperparameters were searched for."""
    if view.version is None:
        return none("there is no version yet")
    report = view.workspace.evidence.get(str(view.version.details.report))
    searched = [one for one in report["candidates"] if one.get("search")]
    if searched:
        names = ", ".join(one["candidate"] for one in searched)
        return full(f"successive halving searched the parameters of {names}", view.report_of())
    if len(report["candidates"]) > 1:
        names = ", ".join(one["candidate"] for one in report["candidates"])
        return half(f"{names} were compared; no parameters were searched for", view.report_of())
    return none("one candidate, and no parameters to search")


def staleness(view: View) -> Point:
    """M4: what a stale model costs is known."""
    compared = [found for version in versions_of(view) if (found := stale_loss(view, version))]
    if len(compared) < WINDOWS:
        return none(f"{len(compared)} champions were compared with a fresh model; {WINDOWS} say something")
    loss = median(worse for worse, _ in compared)
    said = f"a champion of {min(age for _, age in compared)} to {max(age for _, age in compared)} partitions"
    said += f" was in the median {loss:+.1%} worse than a fresh model on the same rows"
    return full(said, *(view.report_of(version) for version in versions_of(view)[-WINDOWS:]))


def versions_of(view: View) -> list[Version]:
    """Return all versions, oldest first."""
    return sorted((version for _, version in view.state.versions.items()), key=lambda version: int(version.number))


def stale_loss(view: View, version: Version) -> tuple[float, int] | None:
    """Return by how much the champion of then was worse than a fresh version, and how old it was, in partitions."""
    champion = view.state.versions.get(str(version.details.champion))
    judged = view.judged_of(version)
    metric = view.workspace.loop.metric
    if champion is None or not judged.get("champion_metrics"):
        return None
    ours, theirs = float(judged["metrics"][metric]), float(judged["champion_metrics"][metric])
    keys = view.state.published.keys(after=champion.partition, until=version.partition)
    perfect = ours == (1 if metric == "accuracy" else 0)
    return None if perfect else (relative_loss(metric, theirs, ours), len(keys))


def baselines(view: View) -> Point:
    """M5: a simpler model is not as good."""
    found = view.judged.get("metric_reports", {}).get(view.workspace.loop.metric, {}).get("baselines") or {}
    known = {name: one for name, one in found.items() if one.get("value") is not None}
    if not known:
        return none("no baseline was fitted")
    said = ", ".join(f"{name} {one['value']:.4g} ({one['worse_by']:+.1%})" for name, one in known.items())
    ours = view.judged["metrics"][view.workspace.loop.metric]
    words = f"{view.workspace.loop.metric} {ours:.4g}; baselines, and the candidate against them: {said}"
    better = all(one["candidate_is_better"] for one in known.values())
    return full(words, view.report_of()) if better else half(words, view.report_of())


def slices(view: View) -> Point:
    """M6: quality is sufficient on important slices."""
    found = view.judged.get("slices") or {}
    measured = [one for column in found.values() for one in column["slices"] if one["verdict"] == "measured"]
    if not measured:
        return none("no slice is declared, or none had enough rows")
    gated = sorted({column for gate in view.workspace.loop.gates for column in gate.slices})
    said = f"{len(measured)} slices of {', '.join(found)} were measured"
    return full(f"{said}; gates limit {', '.join(gated)}", view.report_of()) if gated else half(
        f"{said}; no gate limits any", view.report_of()
    )  # fmt: skip


def fairness(view: View) -> Point:
    """M7: the model was tested for fairness."""
    found = view.judged.get("fairness") or {}
    known = [
        f"{measure} of {column} {one['value']:.3g}"
        for column, measures in found.items() for measure, one in measures.items() if one["value"] is not None
    ]  # fmt: skip
    return full("; ".join(known), view.report_of()) if known else none("no groups are declared, or too few have rows")


ITEMS: Items = {
    "M1": ("declaration and code are reviewed and in the repository", reviewed),
    "M2": ("offline and served metrics agree", metrics_agree),
    "M3": ("hyperparameters are tuned", tuned),
    "M4": ("the cost of staleness is known", staleness),
    "M5": ("no simpler model is as good", baselines),
    "M6": ("quality on slices", slices),
    "M7": ("fairness", fairness),
}
