"""Measure parsing a Dag file with one loop, against the same seven Dags written by hand.

As in Airflow's Dag processor, every parse is a fork of a process that has imported Airflow but nothing
of ours, so importing this package counts, in every round. The peer's Dags have the same schedules, assets and tasks, as
plain Python tasks. Both files are parsed in turn, and the medians compared.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.row import Row

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 15
DAGS = 7
BAR_MS = 5.0

BY_HAND = '''
"""Airflow Dags of a loop, written by hand."""
from datetime import datetime, timedelta, timezone

from airflow.sdk import (
    DAG, Asset, AssetAlias, CronPartitionTimetable, Param, PartitionedAssetTimetable, TaskGroup, task,
)

ASSETS = {
    word: Asset(name=f"by_hand_{word}", uri=f"mlops://by_hand/{word}")
    for word in ("snapshot", "predictions", "retrain", "candidate", "champion")
}
START = datetime(2013, 1, 6, tzinfo=timezone.utc)
COMMON = {
    "default_args": {"retries": 2, "retry_delay": timedelta(seconds=10), "owner": "somebody"},
    "max_active_runs": 1, "catchup": False, "tags": ["by-hand"],
}


def cron(expression):
    return {"schedule": CronPartitionTimetable(expression, timezone="UTC"), "start_date": START, **COMMON}


def on(word):
    return {"schedule": PartitionedAssetTimetable(assets=ASSETS[word]), **COMMON}


with DAG("by_hand_ingest", **cron("@weekly")):
    @task
    def snapshot():
        return {}

    @task
    def validate(manifest):
        return {}

    @task(outlets=[ASSETS["snapshot"]])
    def publish(manifest, validated):
        return {}

    taken = snapshot()
    publish(taken, validate(taken))

with DAG("by_hand_score", **on("snapshot")):
    @task(outlets=[ASSETS["predictions"]])
    def score():
        return {}

    score()

with DAG("by_hand_watch", **on("predictions")):
    @task(outlets=[AssetAlias("candidate?")])
    def reconcile():
        return []

    @task
    def drift():
        return {}

    @task
    def performance():
        return {}

    @task(outlets=[AssetAlias("retrain?")], trigger_rule="none_failed")
    def decide():
        return {}

    @task
    def verify():
        return None

    reconcile()
    verify()
    [drift(), performance()] >> decide()

with DAG("by_hand_nightly", **cron("0 2 * * *")):
    @task(outlets=[AssetAlias("retrain?")])
    def decide_nightly():
        return {}

    decide_nightly()

with DAG("by_hand_train", **on("retrain")):
    @task
    def assemble():
        return []

    @task
    def fit(assignment):
        return {}

    @task
    def evaluate(fits):
        return {}

    @task
    def gate(evaluated):
        return None

    @task
    def register(evaluated):
        return {}

    @task(outlets=[ASSETS["candidate"]])
    def prove(registered):
        return []

    evaluated = evaluate(fit.expand(assignment=assemble()))
    registered = register(evaluated)
    gate(evaluated) >> registered
    prove(registered)

with DAG("by_hand_rollout", **on("candidate")):
    @task(outlets=[AssetAlias("champion?")])
    def start():
        return ""

    @task
    def enter(version, index):
        return {}

    @task
    def analyse(version, index):
        return {}

    @task(outlets=[ASSETS["champion"]])
    def promote(version, index):
        return {}

    version = start()
    before = version
    for index, name in enumerate(["shadow_100", "canary_10", "canary_50"]):
        with TaskGroup(name):
            entered, analysed = enter(version, index), analyse(version, index)
            before >> entered >> analysed
            before = analysed
    with TaskGroup("live_100"):
        before >> promote(version, 3)

with DAG("by_hand_control", schedule=None, params={
    "action": Param("pause", enum=["pause", "resume", "skip", "abort", "rollback", "unquarantine", "release"]),
    "reason": Param("asked for in the UI", type="string", description="why, for the ledger"),
    "version": Param("", type="string", description="the version that is meant"),
    "to": Param("", type="string", description="the version that shall serve"),
    "partition": Param("", type="string", description="the partition that is meant"),
}, **COMMON):
    @task
    def control():
        return ""

    control()
'''


def parse_per_dag() -> list[Row]:
    """Return the row: CPU milliseconds per Dag of parsing a file with one loop."""
    import airflow.sdk  # noqa: F401 - the parent of every parse has it
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: F401

    ours_file = ROOT / "dags" / "flight_air_time.py"
    with tempfile.TemporaryDirectory() as folder:
        by_hand = Path(folder) / "by_hand.py"
        by_hand.write_text(BY_HAND)
        # Airflow's own lazy imports are the same for both and would drown the difference: all are made here.
        # The peer's libraries are thereby warm, ours are not.
        parse(by_hand)
        ours, peer = [], []
        for number in range(ROUNDS + 1):
            our_seconds, peer_seconds = cpu_of_parse(ours_file), cpu_of_parse(by_hand)
            if number:  # the first round compiles and fills the file cache
                ours.append(our_seconds * 1000 / DAGS)
                peer.append(peer_seconds * 1000 / DAGS)
            print(f"\r    round {number}/{ROUNDS}", end="", flush=True)
    print()
    our_median, peer_median = median(ours), median(peer)
    return [
        Row(
            name="parse_per_dag",
            ours=round(our_median, 3),
            peer=round(peer_median, 3),
            unit="CPU ms/Dag",
            peer_name="the same seven Dags by hand, plain Python tasks",
            ratio=round(our_median / peer_median, 3),
            bar=f"ours - peer <= {BAR_MS:g} CPU ms",
            reached=our_median - peer_median <= BAR_MS,
        )
    ]


def cpu_of_parse(file: Path, dags: int = DAGS) -> float:
    """Return the CPU seconds that a fork of this process takes to parse a file of so many Dags."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        spent = -1.0
        try:
            spent = parse(file, dags)
        finally:
            os.write(writing, struct.pack("d", spent))
            os._exit(0)
    os.waitpid(child, 0)
    (seconds,) = struct.unpack("d", os.read(reading, 8))
    os.close(reading)
    os.close(writing)
    if seconds < 0:
        raise RuntimeError(f"{file} could not be parsed; its error stands above")
    return float(seconds)


def parse(file: Path, dags: int = DAGS) -> float:
    """Parse a Dag file as the Dag processor does and return the CPU seconds it took."""
    from airflow.dag_processing.dagbag import BundleDagBag

    began = time.process_time()
    bag = BundleDagBag(dag_folder=str(file), bundle_path=file.parent, bundle_name="benchmark")
    seconds = time.process_time() - began
    if bag.import_errors or len(bag.dags) != dags:
        raise RuntimeError(f"{file}: {len(bag.dags)} Dags, errors {bag.import_errors}")
    return seconds
