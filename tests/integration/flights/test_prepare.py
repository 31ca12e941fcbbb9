"""The prepared flight data: nothing lost, nothing doubled, nothing known only after departure."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from include.flights.prepare import (
    AIR_TIME,
    ARRIVAL,
    DELAY,
    FEATURES,
    KEY,
    TIME,
    WEEK,
    LabelledSet,
    data_folder,
    prepare,
)

DEPARTURES = 336_776
CANCELLED_OR_DIVERTED = 9_430
KNOWN_ONLY_AFTERWARDS = {
    "dep_time",
    "dep_delay",
    "arr_time",
    "arr_delay",
    "air_time",
    "arrived_late",
    "arrival",
    "tailnum",
}
SETS = pytest.mark.parametrize("target", [AIR_TIME, DELAY, ARRIVAL], ids=lambda target: target.folder)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flights")
    prepare(folder)
    return folder


def year(prepared: Path, target: LabelledSet) -> pd.DataFrame:
    flights: pd.DataFrame = ds.dataset(prepared / target.folder).to_table().to_pandas()
    return flights


@SETS
def test_every_departure_is_kept_once_under_a_key_of_its_own(prepared: Path, target: LabelledSet) -> None:
    flights = year(prepared, target)
    assert len(flights) == flights[KEY].nunique() == DEPARTURES


@SETS
def test_a_flight_that_never_arrived_stays_without_a_label(prepared: Path, target: LabelledSet) -> None:
    assert year(prepared, target)[target.label].isna().sum() == CANCELLED_OR_DIVERTED


@SETS
def test_every_row_lies_in_the_week_that_its_partition_closes(prepared: Path, target: LabelledSet) -> None:
    files = sorted((prepared / target.folder).glob("*.parquet"))
    sundays = pd.date_range("2013-01-06", "2014-01-05", freq="W-SUN", tz="UTC")
    assert [file.stem for file in files] == list(sundays.strftime("%Y-%m-%d"))
    for file, closes in zip(files, sundays, strict=True):
        times = pq.read_table(file, columns=[TIME]).column(TIME).to_pandas()
        assert closes - WEEK <= times.min() <= times.max() < closes, file.stem


@SETS
def test_a_partition_has_the_declared_columns_and_one_label(prepared: Path, target: LabelledSet) -> None:
    for file in (prepared / target.folder).glob("*.parquet"):
        assert pq.read_schema(file).equals(target.schema, check_metadata=True), file.name
    assert pa.types.is_timestamp(target.schema.field(TIME).type)
    assert target.schema.field(TIME).type.tz == "UTC"


def test_no_feature_is_known_only_after_departure() -> None:
    assert not {name for name, _ in FEATURES} & KNOWN_ONLY_AFTERWARDS


def test_the_departure_in_utc_is_the_local_schedule_in_winter_and_in_summer(prepared: Path) -> None:
    flights = year(prepared, DELAY)
    local = flights[TIME].dt.tz_convert("America/New_York")
    assert (local.dt.hour == flights["hour"]).all()
    assert (local.dt.minute == flights["minute"]).all()
    assert (local.dt.dayofweek == flights["day_of_week"]).all()


def test_a_flight_carries_the_weather_observed_in_the_hour_before_its_own(prepared: Path) -> None:
    raw = pd.read_csv(data_folder() / "weather.csv", usecols=["origin", "time_hour", "temp"])
    observed = {(o, h): t for o, h, t in zip(raw["origin"], raw["time_hour"], raw["temp"], strict=True)}
    sample = year(prepared, DELAY).dropna(subset=["temp"]).iloc[::5_000]
    hours = (sample[TIME].dt.floor("h") - pd.Timedelta(hours=1)).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    expected = [observed[key] for key in zip(sample["origin"], hours, strict=True)]
    assert sample["temp"].tolist() == expected


def test_an_arrival_is_late_from_a_quarter_of_an_hour_on_and_early_up_to_a_quarter_before(prepared: Path) -> None:
    raw = pd.read_csv(data_folder() / "flights.csv.zip", usecols=["arr_delay"])["arr_delay"]
    counts = year(prepared, ARRIVAL)["arrival"].value_counts().to_dict()
    late, early = int((raw >= 15).sum()), int((raw <= -15).sum())
    assert counts == {"late": late, "early": early, "on time": int(raw.notna().sum()) - late - early}
    assert min(counts.values()) > 70_000


def test_preparing_twice_writes_the_same_bytes(prepared: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    assert digests(tmp_path) == digests(prepared)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.parquet"))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
