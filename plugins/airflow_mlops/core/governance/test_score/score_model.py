"""Model: was it chosen well, and is it good for everybody?"""

from __future__ import annotations

from statistics import median

from airflow_mlops.core.governance.state import Version
from airflow_mlops.core.governance.test_score.points import Point, View, full, half, none
from airflow_mlops.core.training.code_state import code_state

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
    judged = [record for record in view.of_kind("performance_judged") if "worse_by" in record.details]
    if len(judged) < WINDOWS:
        return none(f"{len(judged)} served partitions were held against their labels; {WINDOWS} say something")
    middle = median(float(record.details["worse_by"]) for record in judged)
    said = f"on {len(judged)} served partitions the median {judged[-1].details['metric']} is {middle:+.0%} of the holdout's"
    where = (view.record(judged[0]), view.record(judged[-1]))
    return full(said, *where) if abs(middle) <= AGREES else half(f"{said}: beyond {AGREES:.0%}", *where)


def tuned(view: View) -> Point:
    """M3: hyperparameters were searched for."""
    if view.version is None:
        return none("there is no version yet")
    report = view.workspace.evidence.get(view.version.details["report"])
    searched = [one for one in report["candidates"] if one.get("best_params") is not None]
    if searched:
        names = ", ".join(one["candidate"] for one in searched)
        return full(f"successive halving searched the parameters of {names}", view.report_of())
    if len(report["candidates"]) > 1:
        names = ", ".join(one["candidate"] for one in report["candidates"])
        return half(f"{names} were compared; no parameters were searched for", view.report_of())
    return none("one candidate, and no parameters to search")


def staleness(view: View) -> Point:
    """M4: what a stale model costs is known."""
    compared = [found for found in map(lambda version: stale_loss(view, version), versions_of(view)) if found]
    if len(compared) < WINDOWS:
        return none(f"{len(compared)} champions were compared with a fresh model; {WINDOWS} say something")
    loss = median(worse for worse, _ in compared)
    said = f"a champion of {min(age for _, age in compared)} to {max(age for _, age in compared)} partitions"
    said += f" was in the median {loss:+.1%} worse than a fresh model on the same rows"
    return full(said, *(view.report_of(version) for version in versions_of(view)[-WINDOWS:]))


def versions_of(view: View) -> list[Version]:
    """Return all versions, oldest first."""
    return sorted(view.state.versions.values(), key=lambda version: int(version.number))


def stale_loss(view: View, version: Version) -> tuple[float, int] | None:
    """Return by how much the champion of then was worse than a fresh version, and how old it was, in partitions."""
    champion = view.state.versions.get(str(version.details.get("champion")))
    judged = view.judged_of(version)
    metric = view.workspace.loop.metric
    if champion is None or not judged.get("champion_metrics"):
        return None
    ours, theirs = float(judged["metrics"][metric]), float(judged["champion_metrics"][metric])
    keys = [key for key in view.state.published if champion.partition < key <= version.partition]
    return ((theirs - ours) / ours, len(keys)) if ours else None
