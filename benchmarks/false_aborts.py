"""Simulate how often a good challenger is stopped, and how soon a bad one, over ten interim analyses.

Traffic is split by entity, and entities come back: each has a rate of its own, from equal ones to some that nearly
always err. About as many requests as there are entities come in before each look. The judgement is that of a rollout:
the error share at each planned look with the stop for gross breakage beside it, and the mean of a value. The peer is
the promised number or, for the power, a single analysis at the end with as many requests.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from airflow_mlops.core.ports.rollout_target import Telemetry, UnitSums, VersionTelemetry
from airflow_mlops.core.rollout.analysis.entity_difference import entity_difference, ratio_of_sums
from airflow_mlops.core.rollout.analysis.gross_breakage import gross_breakage
from airflow_mlops.core.rollout.analysis.judge_errors import judge_errors
from airflow_mlops.core.rollout.analysis.judge_metric import Look
from airflow_mlops.core.rollout.analysis.judge_values import judge_values
from benchmarks.row import Row

Floats = npt.NDArray[np.float64]
LOOKS = 10
ALPHA = 0.05
RUNS = 3_000
GROSS_RUNS = 500
ENTITIES = {"challenger": 200, "champion": 800}
RATE = 0.10
WORSE = 1.28
"""Relative rise of the error rate of the bad challenger: a single look finds it in most runs, and not in all."""
GROSS = 5.0
"""Factor of the error rate of a challenger that must be stopped at once."""
GROSS_RATES = (0.05, 0.10, 0.02)
"""Error rates of its champion. The first gives the row; the others are printed too."""
GROSS_LOOKS = 2
SPREADS = {"none": 0.0, "moderate": 0.05, "heavy": 0.5}
ABORTS = 0.055
POWER_POINTS = 5.0
PLAN = [Look(number, tuple(k / LOOKS for k in range(1, number + 1)), LOOKS, ALPHA) for number in range(1, LOOKS + 1)]


def false_aborts() -> list[Row]:
    """Return the rows: good challengers that are stopped, the gap in power, and how soon a gross one is stopped."""
    return [*_false_abort_rows(), _power_gap(), _gross_regression()]


def _false_abort_rows() -> list[Row]:
    rows = []
    for name, spread in SPREADS.items():
        random = np.random.default_rng(1)
        runs = [both_versions(random, spread, RATE, RATE) for _ in range(RUNS)]
        errors = sum(looks_until_stopped(run) is not None for run in runs) / RUNS
        values = (
            sum(any(value_fails(telemetry, look) for telemetry, look in zip(run, PLAN, strict=True)) for run in runs)
            / RUNS
        )
        print(
            f"    {name}: stopped by errors {errors:.4f}, by a value {values:.4f} of {RUNS:,} good challengers",
            flush=True,
        )
        worst = max(errors, values)
        rows.append(
            Row(
                name=f"false_abort_{name}",
                ours=round(worst, 4),
                peer=ALPHA,
                unit="share",
                peer_name="nominal",
                ratio=round(worst / ALPHA, 3),
                bar=f"ours <= {ABORTS:g}",
                reached=worst <= ABORTS,
            )
        )
    return rows


def _power_gap() -> Row:
    random, stopped, stopped_at_end = np.random.default_rng(2), 0, 0
    for _ in range(RUNS):
        run = both_versions(random, SPREADS["moderate"], RATE * WORSE, RATE)
        stopped += looks_until_stopped(run) is not None
        challenger, champion = (version.errors_by_unit for version in (run[-1].challenger, run[-1].champion))
        assert challenger is not None
        assert champion is not None
        # The fixed-sample test: the same requests, by entity, once.
        z = entity_difference(
            ratio_of_sums(challenger.total, challenger.count), ratio_of_sums(champion.total, champion.count)
        ).z
        stopped_at_end += bool(z > norm.isf(ALPHA))
    gap = 100 * (stopped_at_end - stopped) / RUNS
    print(
        f"    {WORSE - 1:.0%} more errors: found in {stopped / RUNS:.4f}, "
        f"by one look at the end in {stopped_at_end / RUNS:.4f}"
    )
    return Row(
        name="power_gap",
        ours=round(100 * stopped / RUNS, 2),
        peer=round(100 * stopped_at_end / RUNS, 2),
        unit="% found",
        peer_name="one look at the end, same requests",
        ratio=round(stopped / stopped_at_end, 3),
        bar=f"peer - ours <= {POWER_POINTS:g} points",
        reached=gap <= POWER_POINTS,
    )


def _gross_regression() -> Row:
    """Return the row of the look by which 95 % of the runs were stopped, for the slowest kind of entities."""
    by_rate = {}
    for rate in GROSS_RATES:
        slowest = 0
        for name, spread in SPREADS.items():
            random = np.random.default_rng(3)
            runs = (both_versions(random, spread, GROSS * rate, rate) for _ in range(GROSS_RUNS))
            needed = [looks_until_stopped(run) or LOOKS + 1 for run in runs]
            needed_by_most = int(np.quantile(needed, 0.95, method="higher"))
            slowest = max(slowest, needed_by_most)
            print(
                f"    errors in {GROSS * rate:.0%}, the champion's in {rate:.0%}, {name}: {np.mean(needed):.2f} looks, "
                f"95 % in {needed_by_most}, all in {max(needed)}",
                flush=True,
            )
        by_rate[rate] = slowest
    looks = by_rate[GROSS_RATES[0]]
    return Row(
        name="gross_regression_looks",
        ours=looks,
        peer=GROSS_LOOKS,
        unit="looks",
        peer_name="what is promised",
        ratio=round(looks / GROSS_LOOKS, 3),
        bar=f"95 % of runs in <= {GROSS_LOOKS}",
        reached=looks <= GROSS_LOOKS,
    )


def looks_until_stopped(run: list[Telemetry]) -> int | None:
    """Return the number of the look at which a challenger is rolled back for its errors; None if it never is."""
    for look, telemetry in zip(PLAN, run, strict=True):
        if gross_breakage(telemetry) is not None or judge_errors(telemetry, look, worse_by=0.0).verdict == "fail":
            return look.number
    return None


def value_fails(telemetry: Telemetry, look: Look) -> bool:
    """Return whether the same numbers, taken as a value of each request, fail a look."""
    challenger, champion = telemetry.challenger.errors_by_unit, telemetry.champion.errors_by_unit
    assert challenger is not None
    assert champion is not None
    return judge_values(challenger, champion, look, margin=0.0, better="lower").verdict == "fail"


def both_versions(
    random: np.random.Generator, spread: float, challenger_rate: float, champion_rate: float
) -> list[Telemetry]:
    """Return the telemetry of a target at each look."""
    versions = zip(
        arrivals(random, "challenger", spread, challenger_rate),
        arrivals(random, "champion", spread, champion_rate),
        strict=True,
    )
    return [Telemetry(1, 60.0 * look, champion, challenger) for look, (challenger, champion) in enumerate(versions, 1)]


def arrivals(random: np.random.Generator, version: str, spread: float, rate: float) -> Iterator[VersionTelemetry]:
    """Yield errors and requests of each entity so far, look after look; entities without a request are left out."""
    count = ENTITIES[version]
    own = np.full(count, rate) if spread == 0 else random.beta(rate / spread, (1 - rate) / spread, count)
    busy = random.gamma(1.0, 1.0, count)
    errors, requests = np.zeros(count), np.zeros(count)
    for _ in range(LOOKS):
        new = random.poisson(busy)
        requests += new
        errors += random.binomial(new, own)
        is_active = requests > 0
        by_unit = UnitSums(errors[is_active], requests[is_active])
        yield VersionTelemetry(int(requests.sum()), int(errors.sum()), by_unit)
