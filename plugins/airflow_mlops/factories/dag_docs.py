"""The documentation of each Dag of a loop, in Markdown, and its tags, from the declaration alone."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.declaration.evaluate import Gate
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.notify import DECISIONS, name_of
from airflow_mlops.core.declaration.retrain import Clock, Regret
from airflow_mlops.core.report.page_html import escape_markdown

TAG_LENGTH = 100
"""Characters of a tag that Airflow takes."""
PURPOSES = {
    "ingest": "Takes a partition from the source, validates it, and publishes or refuses it.",
    "score": "Predicts a published partition with the champion, and beside it with a challenger under way.",
    "watch": "Judges a scored partition and decides whether a retrain is worth its cost.",
    "nightly": "Decides on a retrain by the clock, reports what is overdue, and applies retention.",
    "train": "Fits the candidates of a decided retrain, holds them to the gates, and registers the best one.",
    "rollout": "Takes a candidate through the declared stages to champion, or back.",
    "control": "Carries out what a person asks for: on the rollout, the champion, a version, or rows in quarantine. "
    "Start it by hand; the form says what each field means.",
}
"""What each Dag of a loop does, by the end of its id."""


def dag_doc(loop: Loop, stage: str) -> str:
    """Return the documentation of a Dag in Markdown; texts of the declaration are escaped.

    Parameters
    ----------
    stage : str
        The end of the Dag's id, one of ``PURPOSES``.
    """
    facts = {
        "Model": loop.model,
        "Owner": loop.owner,
        "Tier": loop.tier,
        **({"For": loop.purpose} if loop.purpose else {}),
        "Runs": _schedule_of(loop, stage),
        **_settings_of(loop, stage),
        **({"Notifies": _notifies(loop)} if loop.notify else {}),
    }
    rows = [f"| {name} | {escape_markdown(value)} |" for name, value in facts.items()]
    return "\n".join([PURPOSES[stage], "", "| | |", "|---|---|", *rows, "", _chain(stage)])


def dag_tags(loop: Loop) -> list[str]:
    """Return the tags of every Dag of a loop."""
    return ["airflow-mlops", loop.model, f"tier:{loop.tier}", f"owner:{loop.owner}"[:TAG_LENGTH]]


def _schedule_of(loop: Loop, stage: str) -> str:
    """Return when a Dag of the loop runs."""
    asset = {"score": "snapshot", "watch": "predictions", "train": "retrain", "rollout": "candidate"}
    if stage in asset:
        return f"for each partition of asset mlops://{loop.model}/{asset[stage]}"
    return {
        "ingest": f"{loop.data.every} in {loop.data.timezone}",
        "nightly": f"{loop.train.at} in UTC",
        "control": "when a person starts it",
    }[stage]


def _settings_of(loop: Loop, stage: str) -> dict[str, str]:
    """Return the settings of the declaration that matter to one Dag, by their headings."""
    settings: dict[str, Any] = {}
    if stage == "ingest":
        settings = {"Source": loop.data.source.kind, "Contract": loop.data.contract, "Suite": loop.data.expectations}
    elif stage in ("watch", "nightly"):
        settings = {"Checks": ", ".join(_checks_of(loop)), "Retrains": _policy_of(loop)}
    elif stage == "train":
        settings = {"Function": loop.train.function, "Gates": "; ".join(map(_gate, loop.gates_in_force(compared=True)))}
    elif stage == "rollout":
        rollout = loop.rollout
        stages = [
            f"{stage.name} (a person approves)" if stage.approval == "human" else stage.name for stage in rollout.stages
        ]
        approval = "a person approves each version" if rollout.approval == "human" else None
        settings = {"Target": rollout.target, "Stages": " → ".join(stages), "Approval": approval}
    return {name: str(value) for name, value in settings.items() if value}


def _checks_of(loop: Loop) -> list[str]:
    """Return the names of what is watched."""
    watch = loop.watch
    declared = {
        "drift": watch.drift,
        "performance": watch.performance,
        "staleness": watch.max_age,
        "absence": watch.overdue,
    }
    return [*(name for name, value in declared.items() if value is not None), *watch.checks]


def _policy_of(loop: Loop) -> str:
    """Return the policy of retraining as a sentence."""
    retrain, policy = loop.retrain, loop.retrain.policy
    alarm = f"{retrain.alarm.windows} of {retrain.alarm.of} windows alarm"
    if policy == "never":
        return "only when a person asks"
    words = {"alarm": alarm}.get(str(policy), "")
    if isinstance(policy, Clock):
        words = f"after {policy.clock} partitions{f', or {alarm}' if policy.or_alarm else ''}"
    if isinstance(policy, Regret):
        words = f"regret exceeds {policy.regret:g}{f', or {alarm}' if policy.or_alarm else ''}"
    return f"{words}; cooldown {retrain.cooldown} partitions, budget {retrain.budget} promotions in 52 partitions"


def _gate(gate: Gate) -> str:
    """Return a gate as a phrase."""
    limits = {
        "at most": gate.at_most,
        "at least": gate.at_least,
        "no worse than the champion by": gate.no_worse_than_champion_by,
        "better than": gate.better_than,
    }
    phrase = next(f"{gate.metric} {word} {value}" for word, value in limits.items() if value is not None)
    phrase += "" if gate.confidence is None else f" with {gate.confidence:.0%} confidence"
    return phrase + (f", for each value of {', '.join(gate.slices)}" if gate.slices else "")


def _notifies(loop: Loop) -> str:
    """Return who is notified of what."""
    notify = loop.notify_by_kind
    if notify is None:
        return f"of failed tasks and warnings: {', '.join(loop.callbacks)}"
    receivers = {
        kind: [name_of(one) for one in notify.notifiers_of(kind, loop.tier)] for kind in (*DECISIONS, "failed")
    }
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in receivers.items() if names)


def _chain(stage: str) -> str:
    """Return the stages of a loop with one of them in bold."""
    return " → ".join(f"**{name}**" if name == stage else name for name in PURPOSES if name != "control")
