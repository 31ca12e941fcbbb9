"""Simulate how often the 95 % interval of each metric holds the metric of the population.

A population is a rule that draws rows; its metric is that of two million of them. A sample of a thousand rows, as a
holdout may have, gives an interval as a training computes it. The peer is the promised share. The row of a population
is its metric that is farthest away from that; each is printed. Errors of calibration have a row of their own: where a
model is well calibrated their estimate lies above the truth, and their interval holds it more often than promised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from airflow_mlops.core.evaluation.gates import Holdout
from airflow_mlops.core.evaluation.known_metrics import Metric, metrics_of_label
from airflow_mlops.core.evaluation.roc_auc import CONFIDENCE
from benchmarks.row import Row

SAMPLES = 2_000
ROWS = 1_000
POPULATION = 2_000_000
AWAY = 0.02
COUNTS = (
    "mape",
    "smape",
    "rmsle",
    "mean_poisson_deviance",
    "mean_gamma_deviance",
    "mean_tweedie_deviance_1_5",
    "pinball_loss_p90",
)
"""Metrics of positive numbers, which are measured where they are declared."""

Draw = Callable[[np.random.Generator, int], tuple[Any, Any]]
"""Draws labels and predictions of a number of rows."""


def interval_coverage() -> list[Row]:
    """Return a row for each population, and one for the errors of calibration, whose intervals are cautious."""
    numbers = metrics_of_label(classifies=False, declared=COUNTS)
    classes, several = metrics_of_label(classifies=True), metrics_of_label(classifies=True, several=True)
    populations: dict[str, tuple[Draw, dict[str, Metric]]] = {
        "coverage_numbers": (draw_numbers, numbers),
        "coverage_two_classes": (draw_two_classes, classes),
        "coverage_classes": (draw_three_classes, several),
    }
    rows: list[Row] = []
    cautious: dict[str, float] = {}
    for name, (draw, metrics) in populations.items():
        shares = measure_coverage(draw, list(metrics), np.random.default_rng(5))
        for metric, share in shares.items():
            print(f"    {name}: {metric} {share:.3f}", flush=True)
        cautious |= {metric: share for metric, share in shares.items() if metrics[metric].absolute_sums}
        worst = max(set(shares) - set(cautious), key=lambda metric: abs(shares[metric] - CONFIDENCE))
        rows.append(coverage_row(name, shares[worst], abs(shares[worst] - CONFIDENCE), f"within {AWAY:g} of the peer"))
    least = min(cautious.values())
    return [*rows, coverage_row("coverage_calibration", least, CONFIDENCE - least, f"ours >= peer - {AWAY:g}")]


def coverage_row(name: str, share: float, away: float, bar: str) -> Row:
    """Return the row of a share of intervals that hold the truth."""
    return Row(
        name=name,
        ours=round(share, 4),
        peer=CONFIDENCE,
        unit="share",
        peer_name="the promised share",
        ratio=round(share / CONFIDENCE, 3),
        bar=bar,
        reached=away <= AWAY,
    )


def measure_coverage(draw: Draw, metrics: list[str], random: np.random.Generator) -> dict[str, float]:
    """Return the share of samples whose interval holds the truth, by metric; a metric without intervals has none."""
    population = Holdout(*draw(random, POPULATION), None, {})
    truths = {name: population.on_rows(name).value("candidate") for name in metrics}
    held = dict.fromkeys(metrics, 0)
    for number in range(SAMPLES):
        sample = Holdout(*draw(random, ROWS), None, {}, seed=number)
        for name in list(held):
            on_rows = sample.on_rows(name)
            interval = on_rows.interval("candidate", on_rows.value("candidate"))
            if interval is None:
                del held[name]
            else:
                held[name] += interval.low <= truths[name] <= interval.high
        if number % 100 == 99:
            print(f"\r    {number + 1}/{SAMPLES} samples", end="", flush=True)
    print()
    return {name: count / SAMPLES for name, count in held.items()}


def draw_numbers(random: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """Draw positive labels about predictions that err by a tenth."""
    predicted = np.exp(random.normal(2.0, 0.3, rows))
    return predicted * random.gamma(5.0, 0.2, rows) + 0.5, predicted * np.exp(random.normal(0.0, 0.1, rows))


def draw_two_classes(random: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """Draw classes by a probability, and predictions near it."""
    logit = random.normal(-1.0, 1.2, rows)
    label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    return label, 1 / (1 + np.exp(-1.3 * logit - random.normal(0.0, 0.3, rows)))


def draw_three_classes(random: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """Draw three classes of different shares by probabilities, and predictions near them."""
    logits = random.normal([0.0, 0.7, -0.3], 1.0, (rows, 3))
    label = (logits + random.gumbel(size=(rows, 3))).argmax(axis=1).astype(float)
    chances = np.exp(1.3 * logits + random.normal(0.0, 0.3, (rows, 3)))
    return label, chances / chances.sum(axis=1, keepdims=True)
