"""A ledger of many records of an hourly loop: written once by the ledger's own code, and cached below ``build/``.

Each hour is published, scored, judged twice and decided on; every fiftieth one brings a new champion through shadow
and canary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from airflow_mlops.core.ledger.data_details import PredictionsPublished, SnapshotPublished
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Draft, chain_record
from airflow_mlops.core.ledger.rollout_details import Promoted, RolloutStarted, StageAnalysed, StageEntered
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.ledger.sql_schema import LEDGER, engine_of
from airflow_mlops.core.ledger.training_details import (
    CandidateRegistered,
    PinnedPartition,
    RetrainDecided,
    TrainingStarted,
    TrainingWindow,
)
from airflow_mlops.core.ledger.watch_details import DriftJudged, PerformanceJudged

MODEL = "hourly"
PERIOD = 50
BATCH = 5_000
FOLDER = Path(__file__).resolve().parents[1] / "build" / "ledgers"
START = datetime(2013, 1, 6, tzinfo=UTC)
COLUMNS = {"id": "text", "at": "time", "x1": "float", "x2": "float", "place": "text", "y": "float"}


def ledger_of(records: int) -> str:
    """Return the URL of a ledger of so many records; writes it if it does not exist."""
    path = FOLDER / f"{records}.db"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        write(unfinished, records)
        unfinished.rename(path)
    return f"sqlite:///{path}"


def write(path: Path, count: int) -> None:
    """Write the records and their projection; print the CPU seconds of both."""
    began = time.process_time()
    ledger = SqlLedger(f"sqlite:///{path}", MODEL)
    append_all(ledger, f"sqlite:///{path}", islice(drafts(), count))
    written = time.process_time()
    print(f": {written - began:.0f} CPU s; applying them …", end="", flush=True)
    assert ledger.state().sequence == count
    print(f" {time.process_time() - written:.0f} CPU s", flush=True)


def append_all(ledger: SqlLedger, url: str, history: Iterator[Draft[Details]]) -> None:
    """Append drafts to the ledger at ``url``, thousands in a transaction."""
    sequence, previous = vars(ledger.head()).values()  # makes the tables
    with engine_of(url).connect() as connection:
        while batch := list(islice(history, BATCH)):
            rows = []
            for draft in batch:
                sequence += 1
                record = chain_record(
                    draft,
                    model=ledger.model,
                    sequence=sequence,
                    previous_hash=previous,
                    recorded_at=START.isoformat(),
                )
                previous = record.hash
                rows.append(record.to_json())
            connection.execute(insert(LEDGER), rows)
            connection.commit()
            print(f"\r    {sequence:,} records written", end="", flush=True)


def hour(number: int) -> str:
    """Return the key of the partition with a number, from 0."""
    return (START + timedelta(hours=number)).replace(tzinfo=None).isoformat()


def drafts() -> Iterator[Draft[Details]]:
    """Yield the drafts of an hourly loop that never ends, oldest first."""
    number = sequence = 0
    champion = None
    while True:
        version = str(number // PERIOD + 1) if number % PERIOD == PERIOD - 1 else None
        for draft in hour_drafts(number, champion, version, sequence):
            sequence += 1
            yield draft
        champion, number = version or champion, number + 1


def hour_drafts(number: int, champion: str | None, version: str | None, sequence: int) -> Iterator[Draft[Details]]:
    """Yield the drafts of one hour.

    Parameters
    ----------
    number : int
        Number of the hour.
    champion : str, optional
        The version that scores it.
    version : str, optional
        The version that it brings.
    sequence : int
        Number of the last record before.
    """
    key, digest = hour(number), f"{number:064x}"

    def draft(details: Details, operation: str) -> Draft[Details]:
        return Draft(details, f"{operation}:{key}", key, "benchmark", (digest,))

    yield draft(published_details(number, digest), "published")
    if champion is not None:
        for details in judged_details(champion, digest, number):
            yield draft(details, details.KIND if details.KIND != "window_judged" else vars(details)["check"])
            sequence += 1
    yes = version is not None
    yield draft(RetrainDecided(retrain=yes, cause="clock" if yes else "no alarm", trigger="nightly"), "decided")
    if version is not None:
        # Published, three more where there is a champion, and decided: the decision's number.
        yield from map(draft, *zip(*version_details(number, version, sequence + 2), strict=True))


def published_details(number: int, digest: str) -> SnapshotPublished:
    """Return the details of the publication of an hour."""
    return SnapshotPublished(
        version=number,
        digest=digest,
        rows=1_000,
        report=digest,
        suite="s",
        arrived_version=number,
        arrived_digest=digest,
        snapshot_digest=digest,
        snapshot_rows=1_000,
        columns=COLUMNS,
        contract="c" * 16,
        origin={"uri": f"s3://bucket/{number}.parquet", "size": 81_920},
        profile=digest,
        bins=digest,
        publication=1,
    )


def judged_details(champion: str, digest: str, number: int) -> Iterator[Details]:
    """Yield the details of the predictions and judgements of an hour."""
    yield PredictionsPublished(
        champion=champion,
        version=number,
        digest=digest,
        rows=1_000,
        snapshot=digest,
        snapshot_version=number,
        served={champion: 1_000},
    )
    yield DriftJudged(
        verdict="no alarm",
        message="0 of 4 columns differ",
        rows=1_000,
        snapshot=digest,
        champion=champion,
        report=digest,
        alarm_rate=0.01,
        needed=120,
    )
    yield PerformanceJudged(
        verdict="no alarm",
        message="mae 1.02 in [0.98, 1.06]",
        rows=1_000,
        snapshot=digest,
        champion=champion,
        report=digest,
        alarm_rate=0.01,
        metric="mae",
        scored=1_000,
        value=1.02,
        low=0.98,
        high=1.06,
        reference=1.0,
        worse_by=0.02,
        limit=0.5,
        p_value=0.4,
    )


def version_details(number: int, version: str, decision: int) -> list[tuple[Details, str]]:
    """Return the details of a version from its training to its promotion, each with its operation."""
    pins = [PinnedPartition(hour(hours), hours, f"{hours:064x}") for hours in range(number - 23, number + 1)]
    window = TrainingWindow(tuple(pins[:-6]), tuple(pins[-6:]))
    rollout: int = decision + 3
    stages: list[Any] = []
    for stage, (kind, share) in enumerate([("shadow", 100), ("canary", 50)]):
        stages += [
            (StageEntered(version=version, stage=stage, kind=kind, share=share), f"entered:{stage}"),
            (StageAnalysed(version=version, rollout=rollout, stage=stage, name=kind, verdict="pass"), f"seen:{stage}"),
        ]
    return [
        (TrainingStarted(decision=decision, request=f"r{version}", window=window), "started"),
        (
            CandidateRegistered(
                version=version,
                decision=decision,
                request=f"r{version}",
                metrics={"mae": 1.0},
                window=window,
            ),
            "registered",
        ),
        (RolloutStarted(version=version), "rollout"),
        *stages,
        (Promoted(version=version), "promoted"),
    ]
