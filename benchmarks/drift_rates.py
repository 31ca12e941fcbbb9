"""How often windows without drift alarm, from 100 to 100,000 rows, and how often a small shift is found.

Ours is the verdict over 20 columns at the stated rate, against eight partitions of 5,000 rows, with no minimum effect:
on flights and on three made-up distributions, the row being the one that is farthest from what is stated. Evidently's
preset, as it comes, judges some of the same windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from airflow_mlops.core.watch.drift.drift_verdict import (
    DriftVerdict,
    effective_number_of_tests,
    holm_step_down,
    judge_columns,
)
from benchmarks.drift_streams import Amounts, Categories, Flights, Numbers, Stream
from benchmarks.evidently_drift import evidently_drift
from benchmarks.row import Row

RATE, OTHER_RATE = 0.01, 0.05
PARTITIONS, PARTITION_ROWS = 8, 5_000
REFERENCES, WINDOWS, SAME_BINS = 1_000, 4, 10
BAND = (0.5, 1.5)
SIZES = {"100": 100, "1k": 1_000, "10k": 10_000, "100k": 100_000}
PEER_RUNS = {"100": 8, "1k": 8, "10k": 4, "100k": 1}
"""Runs of the peer on each distribution."""

POWER_RUNS, POWER_BAR = 500, 0.95
POWER = {"5k": (5_000, 0.2, 0.05), "100k": (100_000, 0.05, 0.01)}
"""Rows of a partition and of the window, the shift in standard deviations, and the minimum effect, below it."""
POWER_PEER_RUNS = {"5k": 8, "100k": 1}


def alarm_rates(references: int = REFERENCES, sizes: Sequence[str] = tuple(SIZES)) -> list[Row]:
    """Return the rows: the share of windows without drift that alarm, by their size."""
    streams: list[Stream] = [Flights(), Numbers(), Amounts(), Categories()]
    rows = []
    for size in sizes:
        measured, peers = {}, []
        for stream in streams:
            measured[stream.name] = measured_rates(stream, SIZES[size], references)
            peers.append(peer_rates(stream, SIZES[size], PEER_RUNS[size]))
            told = ", ".join(f"{found:.4f} at {rate:g}" for rate, found in measured[stream.name].items())
            print(f"    {size} rows of {stream.name}: {told}; Evidently: {of_peer(*peers[-1])}", flush=True)
        ratios = [found / rate for of in measured.values() for rate, found in of.items()]
        farthest = max((of[RATE] for of in measured.values()), key=lambda found: abs(np.log(max(found, 1e-9) / RATE)))
        rows.append(
            Row(
                name=f"alarm_rate_{size}", ours=round(farthest, 4), peer=RATE, unit="share",
                peer_name=f"declared; Evidently: {of_peer(*(sum(each) for each in zip(*peers, strict=True)))}",
                ratio=round(farthest / RATE, 3), bar=f"{BAND[0]} <= ratio <= {BAND[1]}",
                reached=all(BAND[0] <= ratio <= BAND[1] for ratio in ratios),
            )
        )  # fmt: skip
    return rows


def measured_rates(stream: Stream, rows: int, references: int) -> dict[float, float]:
    """Return the share of windows that alarm, for both rates."""
    random = np.random.default_rng([rows, *stream.name.encode()])
    alarms = dict.fromkeys((RATE, OTHER_RATE), 0)
    for number in range(references):
        if number % SAME_BINS == 0:
            stream.begin(random, PARTITIONS * PARTITION_ROWS)
        reference = stream.counts(random, PARTITION_ROWS, PARTITIONS)
        windows = stream.counts(random, rows, WINDOWS)
        for place in range(WINDOWS):
            verdict = judged(stream, reference, {name: counts[place] for name, counts in windows.items()})
            for rate in alarms:
                alarms[rate] += alarmed(verdict, stream, rate)
    return {rate: found / (references * WINDOWS) for rate, found in alarms.items()}


def judged(
    stream: Stream, reference: dict[str, np.ndarray], window: dict[str, np.ndarray], *, min_effect: float = 0.0
) -> DriftVerdict:
    """Return the verdict on a window."""
    return judge_columns(
        reference, window, alarm_rate=RATE, min_effect=min_effect, effective=stream.effective,
        unordered=stream.unordered,
    )  # fmt: skip


def alarmed(verdict: DriftVerdict, stream: Stream, rate: float) -> bool:
    """Whether a verdict would be an alarm at a rate."""
    if rate == RATE:
        return verdict.verdict == "alarm"
    p_values = [column.p_value for column in verdict.columns]
    tests = effective_number_of_tests(stream.effective, rate, len(p_values))
    return any(holm_step_down(p_values, alarm_rate=rate, tests=tests))


def peer_rates(stream: Stream, rows: int, runs: int) -> tuple[int, int, int]:
    """Return how often Evidently's preset finds drift of the data set, the columns it calls drifted, and the runs."""
    whole, columns = 0, 0
    for run in range(runs):
        random = np.random.default_rng([run, rows])
        stream.begin(random, PARTITION_ROWS)
        found = evidently_drift(stream.frame(random, PARTITION_ROWS), stream.frame(random, rows))
        whole, columns = whole + found.dataset, columns + len(found.columns)
    return whole, columns, runs


def of_peer(whole: int, columns: int, runs: int) -> str:
    """Return what the peer did, in a few words."""
    return f"data set {whole} of {runs}, {columns / runs:.1f} columns of 20"


def power() -> list[Row]:
    """Return the rows: the share of windows in which a small shift of one column of twenty is found."""
    rows = []
    for size, (count, shift, least) in POWER.items():
        stream, random, found = Numbers(), np.random.default_rng(count), 0
        for _ in range(POWER_RUNS):
            stream.shift = 0.0
            stream.begin(random, PARTITIONS * count)
            reference = stream.counts(random, count, PARTITIONS)
            stream.shift = shift
            window = {name: counts[0] for name, counts in stream.counts(random, count, 1).items()}
            found += "x00" in judged(stream, reference, window, min_effect=least).drifted
        share, peers = found / POWER_RUNS, []
        for run in range(POWER_PEER_RUNS[size]):
            seeded = np.random.default_rng([run, count])
            stream.shift = 0.0
            before = stream.frame(seeded, count)
            stream.shift = shift
            peers.append(evidently_drift(before, stream.frame(seeded, count)))
        named = sum("x00" in each.columns for each in peers)
        whole = sum(each.dataset for each in peers) / len(peers)
        print(f"    {shift:g} sigma at {size} rows: found in {share:.4f} of {POWER_RUNS}", flush=True)
        rows.append(
            Row(
                name=f"power_{size}", ours=share, peer=whole, unit="share found",
                peer_name=f"Evidently's default, data set; the column in {named} of {len(peers)}",
                ratio=round(share / max(whole, 1e-9), 3) if whole else 0.0, bar=f"ours >= {POWER_BAR:g}",
                reached=share >= POWER_BAR,
            )
        )  # fmt: skip
    return rows
