"""A year of real flights, week after week: clean data raise no critical finding, and hardly a warning."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.profiles.bottom_sample import BottomSample
from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, Profiler, profile_bins
from airflow_mlops.core.data.row_hash import hash_rows
from airflow_mlops.core.declaration.data import Checks
from airflow_mlops.core.ports.partitions import BATCH_ROWS
from airflow_mlops.core.validation.finding import Finding
from airflow_mlops.core.validation.history_checks import check_history
from airflow_mlops.core.validation.leakage import check_leakage

DATA = Path(__file__).parents[2] / "include" / "data"


@pytest.mark.skipif(not (DATA / "flights_delay").is_dir(), reason="`make data` writes the flights")
@pytest.mark.parametrize(("folder", "label"), [("flights_air_time", "air_time"), ("flights_delay", "arrived_late")])
def test_the_only_finding_of_a_year_is_its_last_week_of_three_days(folder: str, label: str) -> None:
    history: list[PartitionProfile] = []
    bins: ProfileBins | None = None
    failed: list[tuple[str, Finding]] = []
    for path in sorted((DATA / folder).glob("*.parquet")):
        rows, sample = pq.read_table(path), BottomSample()
        with KeySpool() as rest:
            for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
                hashed = hash_rows(batch, key="flight_id")
                assert hashed.rest is not None
                rest.add(hashed.rest)
                sample.update(batch, hashed.rows)
            duplicates = rest.surplus()
        sampled = sample.table()
        assert sampled is not None
        bins = bins or profile_bins(sampled.drop_columns(["flight_id"]))
        profiler = Profiler(bins)
        for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
            profiler.update(batch)
        profile = profiler.profile(duplicates=duplicates)
        findings = [
            *check_history(profile, history, Checks(), label=label),
            *check_leakage(sampled, "critical", label=label, key="flight_id", time="scheduled_departure"),
        ]
        failed += [(path.stem, finding) for finding in findings if finding.verdict == "fail"]
        history.append(profile)
    assert len(history) == 53
    assert [(week, finding.check, finding.severity) for week, finding in failed] == [
        ("2014-01-05", "row_count", "warning")
    ]
