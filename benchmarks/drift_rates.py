"""Measure the false alarm rate of windows of 100 to 100,000 rows, and the power for a small shift.

Ours is the verdict over 20 columns at the stated rate, against eight partitions of 5,000 rows, with no minimum effect,
on flights and on three synthetic distributions; the row is the one farthest from the stated rate. Evidently's
preset, as it comes, judges some of the same windows. Weeks that misbehave by themselves have a row each.
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
from benchmarks.drift_week_rates import week_rows
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
    """Return the rows: the share of windows without drift that alarm, by their size, and by how weeks misbehave."""
    streams: list[Stream] = [Flights(), Numbers(), Amounts(), Categories()]
    rows = []
    for size in sizes:
        measured, peers = {}, []
        for stream in streams:
            measured[stream.name] = measure_alarm_rates(stream, SIZES[size], references)
            peers.append(peer_rates(stream, SIZES[size], PEER_RUNS[size]))
            rates_text = ", ".join(f"{share:.4f} at {rate:g}" for rate, share in measured[stream.name].items())
            print(f"    {size} rows of {stream.name}: {rates_text}; Evidently: {describe_peer(*peers[-1])}", flush=True)
        all_peers = describe_peer(*(sum(counts) for counts in zip(*peers, strict=True)))
        ratios = [share / rate for shares in measured.values() for rate, share in shares.items()]
        farthest = max(
            (shares[RATE] for shares in measured.values()), key=lambda share: abs(np.log(max(share, 1e-9) / RATE))
        )
        rows.append(
            Row(
                name=f"alarm_rate_{size}",
                ours=round(farthest, 4),
                peer=RATE,
                unit="share",
                peer_name=f"declared; Evidently: {all_peers}",
                ratio=round(farthest / RATE, 3),
                bar=f"{BAND[0]} <= ratio <= {BAND[1]}",
                reached=all(BAND[0] <= ratio <= BAND[1] for ratio in ratios),
            )
        )
    return [*rows, *week_rows()]


def measure_alarm_rates(stream: Stream, rows: int, references: int) -> dict[float, float]:
    """Return the share of windows that alarm, for both rates."""
    random = np.random.default_rng([rows, *stream.name.encode()])
    alarms = dict.fromkeys((RATE, OTHER_RATE), 0)
    for number in range(references):
        if number % SAME_BINS == 0:
            stream.begin(random, PARTITIONS * PARTITION_ROWS)
        reference = stream.counts(random, PARTITION_ROWS, PARTITIONS)
        windows = stream.counts(random, rows, WINDOWS)
        for place in range(WINDOWS):
            verdict = judge_counts(stream, reference, {name: counts[place] for name, counts in windows.items()})
            for rate in alarms:
                alarms[rate] += is_alarm(verdict, stream, rate)
    return {rate: count / (references * WINDOWS) for rate, count in alarms.items()}


def judge_counts(
    stream: Stream, reference: dict[str, np.ndarray], window: dict[str, np.ndarray], *, min_effect: float = 0.0
) -> DriftVerdict:
    """Return the verdict on a window."""
    return judge_columns(
        reference,
        window,
        alarm_rate=RATE,
        min_effect=min_effect,
        effective=stream.effective,
        unordered=stream.unordered,
    )


def is_alarm(verdict: DriftVerdict, stream: Stream, rate: float) -> bool:
    """Return whether a verdict is an alarm at a rate."""
    if rate == RATE:
        return verdict.verdict == "alarm"
    p_values = [column.p_value for column in verdict.columns]
    tests = effective_number_of_tests(stream.effective, rate, len(p_values))
    return any(holm_step_down(p_values, alarm_rate=rate, tests=tests))


def peer_rates(stream: Stream, rows: int, runs: int) -> tuple[int, int, int]:
    """Return the counts of drifted data sets and drifted columns by Evidently's preset, and the number of runs."""
    data_sets, columns = 0, 0
    for run in range(runs):
        random = np.random.default_rng([run, rows])
        stream.begin(random, PARTITION_ROWS)
        drift = evidently_drift(stream.frame(random, PARTITION_ROWS), stream.frame(random, rows))
        data_sets, columns = data_sets + drift.dataset, columns + len(drift.columns)
    return data_sets, columns, runs


def describe_peer(data_sets: int, columns: int, runs: int) -> str:
    """Return the peer's counts as text."""
    return f"data set {data_sets} of {runs}, {columns / runs:.1f} columns of 20"


def power() -> list[Row]:
    """Return the rows: the share of windows in which a small shift of one column of twenty is found."""
    rows = []
    for size, (count, shift, min_effect) in POWER.items():
        stream, random, hits = Numbers(), np.random.default_rng(count), 0
        for _ in range(POWER_RUNS):
            stream.shift = 0.0
            stream.begin(random, PARTITIONS * count)
            reference = stream.counts(random, count, PARTITIONS)
            stream.shift = shift
            window = {name: counts[0] for name, counts in stream.counts(random, count, 1).items()}
            hits += "x00" in judge_counts(stream, reference, window, min_effect=min_effect).drifted
        share, peers = hits / POWER_RUNS, []
        for run in range(POWER_PEER_RUNS[size]):
            peer_random = np.random.default_rng([run, count])
            stream.shift = 0.0
            before = stream.frame(peer_random, count)
            stream.shift = shift
            peers.append(evidently_drift(before, stream.frame(peer_random, count)))
        column_hits = sum("x00" in drift.columns for drift in peers)
        data_set_share = sum(drift.dataset for drift in peers) / len(peers)
        print(f"    {shift:g} sigma at {size} rows: found in {share:.4f} of {POWER_RUNS}", flush=True)
        rows.append(
            Row(
                name=f"power_{size}",
                ours=share,
                peer=data_set_share,
                unit="share found",
                peer_name=f"Evidently's default, data set; the column in {column_hits} of {len(peers)}",
                ratio=round(share / max(data_set_share, 1e-9), 3) if data_set_share else 0.0,
                bar=f"ours >= {POWER_BAR:g}",
                reached=share >= POWER_BAR,
            )
        )
    return rows
