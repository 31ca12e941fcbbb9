"""Measure the alarms, the silence and the insufficient data of weeks that misbehave, and which shifts are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from airflow_mlops.core.watch.drift.drift_verdict import DriftVerdict, holm_step_down, judge_columns
from benchmarks.drift_weeks import COLUMNS, SIZE, UNORDERED, WEEKS, Weeks
from benchmarks.row import Row

RATE, OTHER_RATE = 0.01, 0.05
SEED = 4
"""What the assumptions about tails were chosen on has other seeds."""
BAND, MOST = (0.5, 1.5), 0.5
SHIFTED = 200
"""Windows with a shift of each factor."""
FACTORS = (3, 10)
"""Shifts of one column, in scales of the weeks' own effects."""


@dataclass(frozen=True)
class WeekRates:
    """Shares of the windows of a process: alarms at both rates, both other verdicts at the first, and shifts found.

    ``intervals`` are those in which the rates of alarms are with a confidence of 95 %.
    """

    alarms: dict[float, float]
    intervals: dict[float, tuple[float, float]]
    quiet: float
    insufficient: float
    detected: dict[int, float]

    @property
    def reached(self) -> bool:
        """Whether windows alarm as often as stated, or less often and most of them are insufficient data."""
        ratios = [share / rate for rate, share in self.alarms.items()]
        return max(ratios) <= BAND[1] and (min(ratios) >= BAND[0] or self.insufficient >= MOST)


def week_rows(processes: Sequence[Weeks] = WEEKS) -> list[Row]:
    """Return a row for each process of weeks: the share of windows in which nothing new happens that alarm."""
    rows = []
    for process in processes:
        rates = measure_weeks(process)
        shifts = ", ".join(f"{factor} x: {share:.2f}" for factor, share in rates.detected.items())
        verdicts = f"quiet {rates.quiet:.3f}, insufficient {rates.insufficient:.3f}"
        alarms = ", ".join(
            f"{share:.4f} ({rates.intervals[rate][0]:.4f} to {rates.intervals[rate][1]:.4f}) at {rate:g}"
            for rate, share in rates.alarms.items()
        )
        print(f"    {process.name}: {alarms}; {verdicts}; found of {shifts}", flush=True)
        rows.append(
            Row(
                name=f"weeks_{process.name}",
                ours=round(rates.alarms[RATE], 4),
                peer=RATE,
                unit="share",
                peer_name=f"declared; {alarms}; {verdicts}",
                ratio=round(rates.alarms[RATE] / RATE, 3),
                bar=f"<= {BAND[1]}, and >= {BAND[0]} or most insufficient",
                reached=rates.reached,
            )
        )
    return rows


def measure_weeks(process: Weeks, shifted: int = SHIFTED) -> WeekRates:
    """Return the shares of a process, each reference with the one week after it."""
    references = process.judged
    random = np.random.default_rng([SEED, *process.name.encode()])
    verdicts = [judge(process, random) for _ in range(references)]
    counts = {name: sum(verdict.verdict == name for verdict in verdicts) for name in ("no alarm", "insufficient data")}
    detected = {
        factor: sum("x00" in judge(process, random, shift=factor * SIZE).drifted for _ in range(shifted)) / shifted
        for factor in FACTORS
    }
    alarms = {rate: sum(is_alarm(verdict, rate) for verdict in verdicts) for rate in (RATE, OTHER_RATE)}
    intervals = {rate: binomtest(count, references).proportion_ci(method="exact") for rate, count in alarms.items()}
    return WeekRates(
        {rate: count / references for rate, count in alarms.items()},
        {rate: (float(interval.low), float(interval.high)) for rate, interval in intervals.items()},
        counts["no alarm"] / references,
        counts["insufficient data"] / references,
        detected,
    )


def judge(process: Weeks, random: np.random.Generator, *, shift: float = 0.0) -> DriftVerdict:
    """Return the verdict on the week after a reference, at the first rate and without a minimum effect."""
    reference, window = process.draw(random, shift=shift)
    return judge_columns(reference, window, alarm_rate=RATE, min_effect=0.0, unordered=UNORDERED)


def is_alarm(verdict: DriftVerdict, rate: float) -> bool:
    """Return whether a verdict alarms at a rate."""
    return any(holm_step_down([column.p_value for column in verdict.columns], alarm_rate=rate, tests=COLUMNS))
