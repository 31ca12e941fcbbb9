"""The printed report of the demo: a line for every week of a loop, and the table at the end."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.retrain.retrain_policy import alarms_of


def week_line(loop: Loop, state: LoopState, partition: str, seconds: float) -> str:
    """Return one line about a week: champion, error, alarms, retrain."""
    performance = state.performance.get(partition)
    value = None if performance is None else performance.value
    error = f"{loop.metric}       -" if value is None else f"{loop.metric} {value:7.3f}"
    champion = f"v{state.champion.number}" if state.champion else "-"
    alarms = ", ".join(cause.split(":")[0] for cause in alarms_of(state, partition)) or "-"
    retrained = [record.details.cause for _, record in state.retrains.items(since=partition, until=f"{partition}~")]
    promoted = [f"v{number} live" for key, number in promotions(state).items() if key == partition]
    outcome = f"retrain ({retrained[0]}) {' '.join(promoted)}" if retrained else ""
    text = f"{partition[:10]}  {loop.model:<16} champion {champion:<4} {error}  alarm {alarms:<19} {outcome}"
    return f"{text:<118} {seconds:4.1f} s"


def promotions(state: LoopState) -> dict[str, str]:
    """Return the promoted versions by the partition of their promotion."""
    entries = ((key.partition("|")[0], number) for key, number in state.promotions.items())
    return dict(entries)


def print_table(summary: dict[str, Any]) -> None:
    """Print the table that compares each loop with the same model never retrained."""
    print(f"\n{'':<18}{'metric':<10}{'loop':>8}{'never':>9}{'ratio':>8}{'retrains':>10}{'live':>6}{'back':>6}")
    for model, comparison in summary["loops"].items():
        numbers = summary[model]
        print(
            f"{model:<18}{comparison['metric']:<10}{comparison['loop']:>8.4f}{comparison['never_retrained']:>9.4f}{comparison['ratio']:>8.3f}"
            f"{len(numbers['retrains']):>10}{numbers['promotions']:>6}{numbers['rollbacks']:>6}"
        )
        if comparison["f1_macro"]:
            loop, never = comparison["f1_macro"].values()
            print(f"{'':<18}{'f1_macro':<10}{loop:>8.4f}{never:>9.4f}{loop / never:>8.3f}")
    for model in summary["loops"]:
        print(speed_line(model, summary[model]["seconds_from_alarm_to_live"]))
    print(
        f"failed tasks {summary['failed_tasks']} of {summary['tasks']}, refused candidates "
        f"{summary['refused_candidates']}, ledgers verified: {summary['ledger_verified']}, {summary['minutes']:.1f} min"
    )


def speed_line(model: str, speed: dict[str, float] | None) -> str:
    """Return a line about the time from an alarm to the new champion."""
    if speed is None:
        return f"{model}: no alarm led to a new champion"
    return (
        f"{model}: from alarm to new champion {speed['median']:.1f} s (median of {speed['retrains']}): "
        f"fitting {speed['fitting']:.1f} s, other steps {speed['steps']:.1f} s, between steps {speed['airflow']:.1f} s"
    )
