"""Compare the decisions of a live loop with those of a replay of its own history."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.replay.compare_policies import PolicyComparison
from airflow_mlops.core.replay.fit_history import fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.workspace import Workspace

PROCESSES = 2


def compare_with_replay(workspace: Workspace) -> dict[str, Any] | None:
    """Return the partitions on which the live loop and its replay retrained and promoted; None if it is too young."""
    state, loop = workspace.state(), workspace.loop
    if len(state.published) <= loop.train.partitions_needed:
        return None
    print(f"==> {loop.model} replayed over its own history", flush=True)
    partitions = past_partitions(workspace)
    keys = [partition.key for partition in partitions]
    # Regret needs a fresh model of every week, any other policy those of the weeks on which it retrained.
    retrained = [str(record.partition) for record in state.retrains.values()]
    as_of = None if isinstance(loop.retrain.policy, Regret) else {keys.index(key) for key in retrained}
    history = fit_history(workspace, partitions, processes=PROCESSES, as_of=as_of)
    replayed = PolicyComparison(history).replay("declared")
    partitions_of = {
        "retrained": retrained,
        "retrained_replayed": [keys[position] for position in replayed.decided],
        "promoted": [key.partition("|")[0] for key in state.promotions],
        "promoted_replayed": [keys[position] for position in replayed.promoted],
    }
    same = all(partitions_of[name] == partitions_of[f"{name}_replayed"] for name in ("retrained", "promoted"))
    return {**partitions_of, "same": same}


def replay_line(model: str, comparison: dict[str, Any] | None) -> str:
    """Return a line that compares a loop with its replay."""
    if comparison is None:
        return f"{model}: too few weeks to replay"
    if comparison["same"]:
        count = len(comparison["retrained"])
        return f"{model}: its replay retrains and promotes on the same {count} weeks as the live loop did"
    differ = sorted(
        {
            key[:10]
            for name in ("retrained", "promoted")
            for key in set(comparison[name]) ^ set(comparison[f"{name}_replayed"])
        }
    )
    return f"{model}: the live loop and its replay differ on {', '.join(differ)}"
