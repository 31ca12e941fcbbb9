"""How often a good challenger is stopped, and how often a bad one is found, over ten planned looks: by simulation.

Traffic is split by entity, and entities come back: each has a rate of its own, from equal ones to some that nearly
always err. The peer is the number that is promised, or for the power a single look at the end with as many requests.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from benchmarks.row import Row

Floats = npt.NDArray[np.float64]
LOOKS = 10
ALPHA = 0.05
RUNS = 4_000
ENTITIES = {"challenger": 200, "champion": 800}
RATE = 0.10
WORSE = 1.28
"""Relative rise of the error rate of the bad challenger: a single look finds it in most runs, and not in all."""
SPREADS = {"none": 0.0, "moderate": 0.05, "heavy": 0.5}
ABORTS = 0.055
POWER_POINTS = 5.0


def false_aborts() -> list[Row]:
    """Return the rows: shares of good challengers that are stopped, and the gap in power."""
    rows = []
    for name, spread in SPREADS.items():
        stopped, _ = stopped_share(spread, worse=1.0, seed=1)
        print(f"    {name} heterogeneity: {stopped:.3f} of {RUNS:,} good challengers stopped", flush=True)
        rows.append(
            Row(
                name=f"false_abort_{name}", ours=round(stopped, 4), peer=ALPHA, unit="share", peer_name="nominal",
                ratio=round(stopped / ALPHA, 3), bar=f"ours <= {ABORTS:g}", reached=stopped <= ABORTS,
            )
        )  # fmt: skip
    found, once = stopped_share(SPREADS["moderate"], worse=WORSE, seed=2)
    gap = 100 * (once - found)
    print(
        f"    a challenger with {WORSE - 1:.0%} more errors: found in {found:.3f}, by one look at the end in {once:.3f}"
    )
    rows.append(
        Row(
            name="power_gap", ours=round(100 * found, 2), peer=round(100 * once, 2), unit="% found",
            peer_name="one look at the end, same requests", ratio=round(found / once, 3),
            bar=f"peer - ours <= {POWER_POINTS:g} points", reached=gap <= POWER_POINTS,
        )
    )  # fmt: skip
    return rows


def stopped_share(spread: float, *, worse: float, seed: int) -> tuple[float, float]:
    """Return the share of challengers that are stopped at any of the looks, and by a single test at the last."""
    from airflow_mlops.core.rollout.entity_difference import entity_difference, ratio_of_sums
    from airflow_mlops.core.rollout.planned_looks import boundaries

    random = np.random.default_rng(seed)
    limits = boundaries([look / LOOKS for look in range(1, LOOKS + 1)], ALPHA)
    stopped = once = 0
    for _ in range(RUNS):
        both = zip(arrivals(random, "challenger", spread, RATE * worse), arrivals(random, "champion", spread, RATE),
                   strict=True)  # fmt: skip
        z = [entity_difference(ratio_of_sums(*ours), ratio_of_sums(*theirs)).z for ours, theirs in both]
        stopped += any(value > limit for value, limit in zip(z, limits, strict=True))
        once += bool(z[-1] > norm.isf(ALPHA))
    return stopped / RUNS, once / RUNS


def arrivals(random: np.random.Generator, version: str, spread: float, rate: float) -> Iterator[tuple[Floats, Floats]]:
    """Yield errors and requests of each entity so far, look after look; entities without a request are left out."""
    count = ENTITIES[version]
    own = np.full(count, rate) if spread == 0 else random.beta(rate / spread, (1 - rate) / spread, count)
    busy = random.gamma(1.0, 1.0, count)
    errors, requests = np.zeros(count), np.zeros(count)
    for _ in range(LOOKS):
        new = random.poisson(busy)
        requests += new
        errors += random.binomial(new, own)
        seen = requests > 0
        yield errors[seen], requests[seen]
