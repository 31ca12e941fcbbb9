"""Measure the cost of profiling and judging a million rows of 20 columns, against decoding and against peers.

Ours reads the Parquet file batch by batch, counts it on the bins of a reference, and judges it; the profile of the
reference is read from JSON, as it is stored. The peers take both samples from memory before their clock starts:
Evidently stores nothing of a reference, and for NannyML the part for the current sample is reported too. Every
measurement is a process of its own with one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.testing.peak_memory import peak_mb
from benchmarks.row import Row

HERE = Path(__file__).resolve().parent
NANNYML = HERE.parent / ".venv-nannyml" / "bin" / "python"
ROWS, MANY = 1_000_000, 100_000_000
ROUNDS, PEER_ROUNDS, MEMORY_ROUNDS = 5, 1, 3
NUMBERS, WORDS, SKEWED = 16, 4, 8
CHUNK, BATCH = 250_000, 65_536
PARTITIONS = 8
DECODE_BAR, EVIDENTLY_BAR, NANNYML_BAR, MEMORY_BAR, MERGE_BAR = 2.0, 100.0, 15.0, 1.1, 0.2
MERGED, MERGED_COLUMNS = 365, 50


def profile_vs_decode(rows: int = ROWS) -> list[Row]:
    """Return the row: CPU seconds of profile and verdict, beside decoding the file."""
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
        write_samples(Path(folder), rows)
        ours, peer = [], []
        for number in range(ROUNDS):
            ours.append(run_measurement("ours", Path(folder))["cpu"])
            peer.append(run_measurement("decode", Path(folder))["cpu"])
            print(f"\r    round {number + 1}/{ROUNDS}", end="", flush=True)
    print()
    our_median, peer_median = median(ours), median(peer)
    return [
        Row(
            name="profile_vs_decode",
            ours=round(our_median, 3),
            peer=round(peer_median, 3),
            unit="CPU s",
            peer_name="decoding the Parquet file alone",
            ratio=round(our_median / peer_median, 3),
            bar=f"ratio <= {DECODE_BAR:g}",
            reached=our_median <= DECODE_BAR * peer_median,
        )
    ]


def profile_vs_evidently(rows: int = ROWS) -> list[Row]:
    """Return the row: CPU seconds of profile and verdict, beside Evidently's preset on the same rows."""
    return [against("evidently", rows, EVIDENTLY_BAR, "Evidently's DataDriftPreset")]


def profile_vs_nannyml(rows: int = ROWS) -> list[Row]:
    """Return the row: CPU seconds of profile and verdict, beside NannyML's univariate drift on the same rows."""
    return [against("nannyml", rows, NANNYML_BAR, "NannyML's UnivariateDriftCalculator, fitted and used")]


def against(peer: str, rows: int, bar: float, peer_name: str) -> Row:
    """Return the row that compares ours with a peer, which should cost at least ``bar`` times as much."""
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
        write_samples(Path(folder), rows)
        ours = [run_measurement("ours", Path(folder)) for _ in range(ROUNDS)]
        peers = [run_measurement(peer, Path(folder)) for _ in range(PEER_ROUNDS)]
    our_median, peer_median = (median(result["cpu"] for result in results) for results in (ours, peers))
    peaks = [max(result["peak_mb"] for result in results) for results in (ours, peers)]
    print(f"    peak memory {peaks[0]:.0f} MB beside {peaks[1]:.0f} MB", flush=True)
    part = f", {peers[0]['current']:.1f} s of it on the current sample" if "current" in peers[0] else ""
    return Row(
        name=f"profile_vs_{peer}",
        ours=round(our_median, 3),
        peer=round(peer_median, 2),
        unit="CPU s",
        peer_name=peer_name + part,
        ratio=round(our_median / peer_median, 5),
        bar=f"peer >= {bar:g} x ours",
        reached=peer_median >= bar * our_median,
    )


def profile_memory_growth(many: int = MANY, rows: int = ROWS) -> list[Row]:
    """Return the row: peak memory of profiling a hundred files of a million rows, beside one of them."""
    peaks: dict[int, list[float]] = {rows: [], many: []}
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
        write_samples(Path(folder), rows)
        for count, values in peaks.items():
            for number in range(MEMORY_ROUNDS if count == rows else 1):
                values.append(run_measurement("ours", Path(folder), count // rows)["peak_mb"])
                print(f"\r    {count:,} rows, round {number + 1}   ", end="", flush=True)
    print()
    peak_of_many, peak_of_one = median(peaks[many]), median(peaks[rows])
    return [
        Row(
            name="profile_memory_growth",
            ours=round(peak_of_many, 1),
            peer=round(peak_of_one, 1),
            unit="MB peak",
            peer_name=f"the same for {rows:,} rows, not {many:,}",
            ratio=round(peak_of_many / peak_of_one, 3),
            bar=f"ratio <= {MEMORY_BAR:g}",
            reached=peak_of_many <= MEMORY_BAR * peak_of_one,
        )
    ]


def merge_365() -> list[Row]:
    """Return the row: CPU seconds of adding up a year of profiles of 50 columns, and of judging a day by them."""
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as folder:
        spent = median(run_measurement("merge", Path(folder))["cpu"] for _ in range(ROUNDS))
    return [
        Row(
            name="merge_365",
            ours=round(spent, 4),
            peer=MERGE_BAR,
            unit="CPU s",
            peer_name="what is allowed",
            ratio=round(spent / MERGE_BAR, 3),
            bar=f"ours <= {MERGE_BAR:g}",
            reached=spent <= MERGE_BAR,
        )
    ]


def write_samples(folder: Path, rows: int) -> None:
    """Write a reference and a current sample of 20 columns: half of the numbers skewed, and four of 20 categories."""
    for name, seed in (("reference", 1), ("current", 2)):
        random = np.random.default_rng(seed)
        schema = pa.schema(
            [(f"x{place:02}", pa.float64()) for place in range(NUMBERS)]
            + [(f"t{place}", pa.string()) for place in range(WORDS)]
        )
        words = pa.array([f"category-{code:02}" for code in range(20)])
        with pq.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for start in range(0, rows, CHUNK):
                count = min(CHUNK, rows - start)
                numbers = random.normal(size=(NUMBERS, count))
                numbers[:SKEWED] = np.exp(numbers[:SKEWED])
                texts = [words.take(pa.array(random.integers(0, 20, count))) for _ in range(WORDS)]
                writer.write_table(pa.table([*map(pa.array, numbers), *texts], schema=schema))
    run_measurement("reference", folder)


def run_measurement(subject: str, folder: Path, files: int = 1) -> dict[str, float]:
    """Run one measurement in a process of its own, on one thread; return its CPU seconds and peak memory."""
    samples = [str(folder / f"{name}.parquet") for name in ("reference", "current")]
    command = {
        "evidently": [sys.executable, "-m", "benchmarks.evidently_drift", *samples],
        "nannyml": [str(NANNYML), "-m", "benchmarks.nannyml_drift", *samples],
    }.get(subject, [sys.executable, "-m", "benchmarks.drift_speed", subject, str(folder), str(files)])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    # NannyML's environment has nothing of ours installed.
    quiet = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "PYTHONPATH": str(HERE.parent / "plugins")}
    process = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **threads, **quiet},
        cwd=HERE.parent,
    )
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{process.stderr}")
    result: dict[str, float] = json.loads(process.stdout.strip().splitlines()[-1])
    return result


def of_reference(folder: Path, _: int) -> float:
    """Write the profile of the reference, in eight parts like the partitions of a training window."""
    from airflow_mlops.core.training.reference_profile import profile_window

    frame = pq.read_table(folder / "reference.parquet").to_pandas()
    size = -(-len(frame) // PARTITIONS)
    parts = {f"p{part}": frame[part * size : (part + 1) * size] for part in range(PARTITIONS)}
    (folder / "reference.json").write_text(json.dumps(profile_window(parts).to_dict()))
    return 0.0


def of_ours(folder: Path, files: int) -> float:
    """Profile the current sample, or so many files of it, and judge it; return the CPU seconds."""
    from airflow_mlops.core.data.profiles.observe_rows import RowObserver
    from airflow_mlops.core.training.reference_profile import ReferenceProfile
    from airflow_mlops.core.watch.drift.judge_window import judge_window

    began = time.process_time()
    reference = ReferenceProfile.from_dict(json.loads((folder / "reference.json").read_text()))
    words = [name for name, kind in reference.bins.kinds.items() if kind == "category"]
    observer = None
    for _ in range(files):
        file = pq.ParquetFile(folder / "current.parquet", read_dictionary=words)
        observer = observer or RowObserver(reference.bins, file.schema_arrow)
        for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
            observer.update(batch)
    assert observer is not None
    verdict = judge_window(reference, observer.result(), alarm_rate=0.01, min_effect=0.1)
    spent = time.process_time() - began
    if verdict.verdict != "no alarm" or len(verdict.judged.columns) != NUMBERS + WORDS:
        raise RuntimeError(f"the same distribution is {verdict.verdict}: {verdict.message}")
    return spent


def of_decode(folder: Path, _: int) -> float:
    """Decode the current sample, and return the CPU seconds."""
    began = time.process_time()
    for batch in pq.ParquetFile(folder / "current.parquet").iter_batches(batch_size=BATCH, use_threads=False):
        del batch
    return time.process_time() - began


def of_merge(_: Path, __: int) -> float:
    """Add up the profiles of a year, and judge a day by them; return the CPU seconds."""
    import pandas as pd

    from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
    from airflow_mlops.core.training.reference_profile import ReferenceProfile, observe_features, profile_window
    from airflow_mlops.core.watch.drift.judge_window import judge_window

    random, words = np.random.default_rng(3), np.array([f"k{code}" for code in range(30)])

    def day() -> pd.DataFrame:
        numbers = random.normal(size=(1_000, MERGED_COLUMNS))
        frame = pd.DataFrame(numbers, columns=[f"c{place:02}" for place in range(MERGED_COLUMNS)])
        return frame.assign(**{f"c{place:02}": random.choice(words, 1_000) for place in range(0, MERGED_COLUMNS, 5)})

    bins = profile_window({"first": day()}).bins
    days = [observe_features(day(), bins) for _ in range(MERGED + 1)]
    began = time.process_time()
    profiles = {f"d{number:03}": observed.profile for number, observed in enumerate(days[:-1])}
    merged = PartitionProfile.merge_all(list(profiles.values()))
    judge_window(ReferenceProfile(bins, profiles), days[-1], alarm_rate=0.01, min_effect=0.1)
    spent = time.process_time() - began
    if merged.rows != MERGED * 1_000:
        raise RuntimeError(f"{merged.rows} rows were added up")
    return spent


if __name__ == "__main__":
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    works = {"reference": of_reference, "ours": of_ours, "decode": of_decode, "merge": of_merge}
    spent = works[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"cpu": spent, "peak_mb": peak_mb()}))
