"""Measure one partition of an hourly loop after 5,000 partitions, against one after 100.

The loop is a real one on its embedded stores: Delta on disk, a SQLite ledger, MLflow. A first champion is trained and
rolled out; then comes a history that the stores write themselves, quickly: small partitions with predictions and
judgements, and a promotion every fifty hours. The partitions after it run whole, and those that are measured each
on a workspace opened anew, as tasks do. Histories are made once and kept below ``build/``; each measurement takes a
copy.

    python -m benchmarks.partition_growth <FOLDER> <PARTITIONS>
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.data.delta_snapshots import DeltaPartitions
from airflow_mlops.core.ledger.data_details import PredictionsPublished, SnapshotPublished
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.rollout_details import Promoted, RolloutStarted
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import RetrainDecided, TrainingStarted
from airflow_mlops.core.ledger.watch_details import DriftJudged, PerformanceJudged, RegretMeasured
from benchmarks.long_ledger import append_all
from benchmarks.row import Row

MANY, FEW = 5_000, 100
ROWS = 200
REAL, WARM, MEASURED = 4, 4, 5
PERIOD = 50
BAR = 1.25
MODEL = "hourly_loop"
FOLDER = Path(__file__).resolve().parents[1] / "build" / "histories"
START = datetime(2013, 1, 6)  # noqa: DTZ001


def partition_growth() -> list[Row]:
    """Return the row: CPU seconds of one partition after 5,000 others, beside after 100."""
    few, many = measure_partitions(FEW), measure_partitions(MANY)
    print(f"    CPU s after {FEW}: {few}\n    CPU s after {MANY:,}: {many}")
    median_of_many, median_of_few = median(many), median(few)
    return [
        Row(
            name="partition_growth",
            ours=round(median_of_many, 3),
            peer=round(median_of_few, 3),
            unit="CPU s",
            peer_name=f"the same after {FEW} partitions",
            ratio=round(median_of_many / median_of_few, 3),
            bar=f"ratio <= {BAR:g}",
            reached=median_of_many <= BAR * median_of_few,
        )
    ]


def measure_partitions(partitions: int) -> list[float]:
    """Return the CPU seconds of each measured partition after ``partitions`` others."""
    history_folder = FOLDER / str(partitions)
    if not history_folder.exists():
        unfinished = history_folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_history(unfinished, partitions)
        unfinished.rename(history_folder)
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-bench-") as scratch:
        folder = Path(scratch) / "loop"
        shutil.copytree(history_folder, folder)
        command = [sys.executable, "-m", "benchmarks.partition_growth", str(folder), str(partitions)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{process.stderr}")
    seconds: list[float] = json.loads(process.stdout.splitlines()[-1])
    return seconds


def hour(number: int) -> str:
    """Return the key of the partition with a number, from 0."""
    return (START + timedelta(hours=number)).isoformat()


def candidates(seed: int) -> dict[str, Any]:
    """Return one unfitted straight line."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    assert seed == 0
    return {"linear": make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), LinearRegression())}


def rows_of(number: int) -> pa.Table:
    """Return the rows of a partition, whose label is a straight line with noise."""
    random, end = np.random.default_rng(number), datetime.fromisoformat(hour(number))
    x1, x2 = random.normal(size=ROWS), random.normal(size=ROWS)
    return pa.table(
        {
            "id": [f"{number}-{row}" for row in range(ROWS)],
            "at": [end - timedelta(minutes=30)] * ROWS,
            "x1": x1,
            "x2": x2,
            "place": ["ab"[row % 2] for row in range(ROWS)],
            "y": 2 * x1 + random.normal(scale=0.5, size=ROWS),
        }
    )


def open_loop(folder: Path) -> Any:
    """Open the workspace of the loop."""
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.open_workspace import Stores, open_workspace

    loop = Loop(
        model=MODEL,
        owner="benchmarks",
        data={
            "source": {"kind": "parquet", "uri": "in/{partition}.parquet"},
            "every": "@hourly",
            "key": "id",
            "time": "at",
            "label": "y",
        },
        train={"function": "benchmarks.partition_growth:candidates", "window": 2},
        gates=[{"metric": "mae", "at_most": 4.0}],
        rollout={"stages": [{"shadow": 100}, {"live": 100}], "min_rows": 20},
        watch={"drift": {"alarm_rate": 0.001}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}},
        # One earlier champion, which each of the histories has: the work does not grow by how many there are yet.
        retrain={"policy": {"regret": 1e6}, "recall": 1},
    )
    return open_workspace(loop, Stores.embedded(folder / "home"), root=folder, actor="benchmark")


def write_source_file(folder: Path, number: int) -> None:
    """Write the source file of a partition."""
    from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule

    path = folder / "in" / f"{PartitionSchedule('@hourly').slug(hour(number))}.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(rows_of(number), path)


def run_partition(folder: Path, number: int) -> None:
    """Ingest a partition and run all later stages, as the Dags do."""
    from airflow_mlops.core.data.take_snapshot import take_snapshot
    from airflow_mlops.core.errors import NotReadyError
    from airflow_mlops.core.retrain.decide_retrain import decide_and_record
    from airflow_mlops.core.rollout.score_partition import score_partition
    from airflow_mlops.core.validation.gx_validator import GxValidator
    from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
    from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
    from airflow_mlops.core.watch.drift.detect_drift import detect_drift
    from airflow_mlops.core.watch.measure_regret import measure_regret
    from airflow_mlops.core.watch.performance.measure_performance import measure_performance

    workspace, key = open_loop(folder), hour(number)
    manifest = take_snapshot(workspace, key)
    publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator()))
    if workspace.state(before=key).champion is not None:
        score_partition(workspace, key)
        detect_drift(workspace, key)
        measure_performance(workspace, key)
        measure_regret(workspace, key)
    decision = decide_and_record(workspace, key, trigger="nightly").details
    if number >= REAL and decision.retrain:
        raise RuntimeError(f"partition {number} of the benchmark asks for a retrain: {decision.reason}")
    with suppress(NotReadyError):
        roll_out_first(workspace, key)


def roll_out_first(workspace: Any, key: str) -> None:
    """Train and roll out a version if a retrain was decided."""
    from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
    from airflow_mlops.core.evaluation.register_candidate import register_candidate
    from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
    from airflow_mlops.core.training.assemble import assemble_training
    from airflow_mlops.core.training.fit_candidate import fit_candidate

    request = assemble_training(workspace, key)
    evaluated = evaluate_candidates(workspace, request, [fit_candidate(workspace, request, "linear")])
    require_gates(workspace, request, evaluated)
    version = str(register_candidate(workspace, request, evaluated)["version"])
    start_rollout(workspace, key)
    for index in range(len(workspace.loop.rollout.stages)):
        run_rollout_step(workspace, version, index, key)


def write_history(folder: Path, partitions: int) -> None:
    """Write a loop with a history of so many partitions; the first ones run through all stages."""
    folder.mkdir(parents=True)
    for number in range(REAL):
        write_source_file(folder, number)
        run_partition(folder, number)
    workspace = open_loop(folder)
    state = workspace.state()
    if state.champion is None or hour(REAL - 1) not in state.scored:
        raise RuntimeError("the history of the benchmark has no champion")
    numbers = range(REAL, partitions)
    tables = {name: folder / "home" / "lake" / MODEL / name for name in ("snapshots", "predictions")}
    rows = {name: getattr(workspace, name).read(hour(REAL - 1)) for name in tables}
    versions = {name: write_partitions(tables[name], rows[name], numbers) for name in tables}
    ledger, url = workspace.ledger, f"sqlite:///{folder / 'home' / 'ledger.db'}"
    append_all(ledger, url, history(workspace, versions, numbers))
    print(flush=True)
    state = workspace.state()
    if state.champion is None or state.published.count() != partitions:
        raise RuntimeError("the history of the benchmark is not what it should be")


def write_partitions(folder: Path, rows: pa.Table, numbers: range) -> dict[int, int]:
    """Write the same rows as each partition, each in a version of its own; return the versions."""
    table, versions = DeltaPartitions(folder), {}
    for number in numbers:
        versions[number] = table.write(hour(number), rows)
        print(f"\r    {number:,} of {numbers.stop:,} partitions of {folder.name} written", end="", flush=True)
    return versions


def history(workspace: Any, versions: dict[str, dict[int, int]], numbers: range) -> Iterator[Draft[Details]]:
    """Yield the records of the partitions, oldest first."""
    state = workspace.state()
    real, sequence, champion = hour(REAL - 1), state.sequence, state.champion
    template: list[Details] = [state.published[real], state.scored[real]]
    judgements = [state.judged(check)[real] for check in ("drift", "performance", "regret")]
    for number in numbers:
        key = hour(number)
        details = partition_details(template, judgements, versions, number, champion)
        promotes = number % PERIOD == PERIOD - 1
        details.append(RetrainDecided(retrain=promotes, cause="clock" if promotes else "no alarm", trigger="nightly"))
        if promotes:
            # The last promotion is of the version that is in the registry, so that its model can be loaded.
            last = number + PERIOD >= numbers.stop
            name = state.champion.number if last else f"h{number // PERIOD}"
            details += version_details(state.champion, name, sequence + len(details))
        for place, entry in enumerate(details):
            yield workspace.draft(entry, f"history:{key}:{place}", key)
        sequence += len(details)
        if promotes:
            champion = replace(state.champion, number=name)


def partition_details(
    template: list[Details], judgements: list[Any], versions: dict[str, dict[int, int]], number: int, champion: Version
) -> list[Details]:
    """Return the details of a partition after the template of the last real one."""
    published, scored = template
    assert isinstance(published, SnapshotPublished)
    assert isinstance(scored, PredictionsPublished)
    snapshot = versions["snapshots"][number]
    return [
        replace(published, version=snapshot, arrived_version=snapshot, publication=None),
        replace(
            scored,
            version=versions["predictions"][number],
            snapshot_version=snapshot,
            champion=champion.number,
            challenger=None,
            served={champion.number: ROWS},
        ),
        *(without_alarm(details, champion) for details in judgements),
    ]


def without_alarm(details: DriftJudged | PerformanceJudged | RegretMeasured, champion: Version) -> Details:
    """Return a judgement of another champion, without an alarm."""
    verdict = "measured" if isinstance(details, RegretMeasured) else "no alarm"
    return replace(details, champion=champion.number, verdict=verdict)


def version_details(version: Version, name: str, decision: int) -> list[Details]:
    """Return the details of a version that is trained and promoted as of one partition."""
    registered = replace(version.details, version=name, decision=decision, request=f"{version.details.request}-{name}")
    return [
        TrainingStarted(decision=decision, window=registered.window),
        registered,
        RolloutStarted(version=name),
        Promoted(version=name),
    ]


def main(folder: Path, partitions: int) -> None:
    """Run partitions after a history, and print the CPU seconds of those after the first few as JSON."""
    seconds = []
    for number in range(partitions, partitions + WARM + MEASURED):
        write_source_file(folder, number)
        before = os.times()
        run_partition(folder, number)
        after = os.times()
        seconds.append(round(sum(after[:4]) - sum(before[:4]), 3))
    state, key = open_loop(folder).state(), hour(partitions + WARM + MEASURED - 1)
    complete = [key in state.scored, key in state.drift, key in state.performance, state.regret[key].regret is not None]
    if not all(complete):
        raise RuntimeError(f"the last partition of the benchmark was not scored and judged: {complete}")
    print(json.dumps(seconds[WARM:]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
