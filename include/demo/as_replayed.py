"""Whether the loop, live in Airflow, decided as a replay of its own history says that it would."""

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
    retrained = [str(record.partition) for record in state.retrains]
    as_of = None if isinstance(loop.retrain.policy, Regret) else {keys.index(key) for key in retrained}
    history = fit_history(workspace, partitions, processes=PROCESSES, as_of=as_of)
    replayed = PolicyComparison(history).replayed("declared")
    found = {
        "retrained": retrained,
        "retrained_replayed": [keys[at] for at in replayed.decided],
        "promoted": [str(record.partition) for record in state.promotions],
        "promoted_replayed": [keys[at] for at in replayed.promoted],
    }
    same = found["retrained"] == found["retrained_replayed"] and found["promoted"] == found["promoted_replayed"]
    return {**found, "same": same}


def replay_line(model: str, found: dict[str, Any] | None) -> str:
    """Return a line about what a replay said."""
    if found is None:
        return f"{model}: too few weeks to replay"
    if found["same"]:
        count = len(found["retrained"])
        return f"{model}: its replay retrains and promotes on the same {count} weeks as the live loop did"
    differ = sorted(
        {key[:10] for what in ("retrained", "promoted") for key in set(found[what]) ^ set(found[f"{what}_replayed"])}
    )
    return f"{model}: the live loop and its replay differ on {', '.join(differ)}"
