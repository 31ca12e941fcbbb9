"""Five loops with a history that somebody could have had, for the pictures of the pages in docs/images.

``parcel_hours`` met a drift, was trained again and has a rollout under way; ``grocery_demand`` took a challenger back;
of ``tram_delay`` a version waits for a person, and rows are in quarantine; ``heat_demand`` had a partition refused;
``basket_value`` is fresh. The rows are made by numpy from a seed for each partition, and the steps are those of the
loop, by the core alone.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.errors import PartitionRefusedError
from tests.loop.by_core import live_through
from tests.loop.project import Project, make_project

WEEKS = [f"{date(2026, 6, 7) + timedelta(weeks=number)}T00:00:00" for number in range(22)]
"""Partition keys: Sundays of a summer and an autumn."""

TRAINING = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def candidates(seed):
    prepare = make_column_transformer(
        ("passthrough", {numbers}), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["{place}"])
    )
    return {{"linear": make_pipeline(prepare, LinearRegression())}}
"""


@dataclass(frozen=True)
class Subject:
    """The subject of a loop: its owner, and the names of its columns and of the places of its rows."""

    model: str
    owner: str
    key: str
    numbers: tuple[str, str, str]
    place: str
    places: tuple[str, ...]
    label: str

    def rows(self, week: str, *, rows: int = 700, shift: float = 0.0, slope: float = 2.0, twice: int = 0) -> pa.Table:
        """Return the rows of a week.

        Parameters
        ----------
        shift : float
            What is added to the first number: a drift of the column.
        slope : float
            By which the label grows with the first number: the relation that a model learns.
        twice : int
            How many of the first rows come a second time.
        """
        end = datetime.fromisoformat(week)
        random = np.random.default_rng([int(end.strftime("%Y%m%d")), len(self.model)])
        first, second, third = (random.gamma(shape, 1.0, size=rows) for shape in (9.0, 4.0, 6.0))
        place = random.integers(len(self.places), size=rows)
        first = first + shift
        label = 4 + slope * first + 0.6 * second + 0.8 * place + random.normal(scale=1.5, size=rows)
        table = pa.table(
            {
                self.key: [f"{partition_slug(week)}-{number:04}" for number in range(rows)],
                "at": [end - timedelta(minutes=13 * number % 10_080 + 1) for number in range(rows)],
                **dict(zip(self.numbers, (first, second, third), strict=True)),
                self.place: [self.places[number] for number in place],
                self.label: label,
            }
        )
        return pa.concat_tables([table, table.slice(0, twice)])

    def declaration(self) -> dict[str, Any]:
        """Return the fields of the loop that its name decides."""
        return {
            "owner": self.owner,
            "data": {
                "source": {"kind": "parquet", "uri": f"include/data/{self.model}/{{partition}}.parquet"},
                "key": self.key,
                "time": "at",
                "label": self.label,
                "from": WEEKS[0][:10],
                "until": "2026-12-27",
                "tolerance": 0.1,
            },
            "train": {"function": f"train_{self.model}.training:candidates", "window": 4},
            "gates": [
                {"metric": "mae", "at_most": 2.5},
                {"metric": "mae", "no_worse_than_champion_by": 0.1},
                {"metric": "mae", "better_than": "dummy"},
            ],
            "watch": {
                "drift": {"alarm_rate": 0.01, "min_effect": 0.25},
                "performance": {"metric": "mae", "worse_by": 0.4},
            },
        }


PARCELS = Subject(
    "parcel_hours",
    "delivery",
    "parcel",
    ("distance", "weight", "stops"),
    "depot",
    ("Bremen", "Kassel", "Ulm"),
    "hours",
)
GROCERIES = Subject(
    "grocery_demand",
    "purchasing",
    "article",
    ("price", "shelf_days", "visitors"),
    "market",
    ("north", "south"),
    "crates",
)
TRAMS = Subject(
    "tram_delay", "timetables", "stop", ("riders", "doors", "crossings"), "line", ("1", "4", "11"), "seconds"
)
HEAT = Subject("heat_demand", "grid", "meter", ("cold", "area", "age"), "quarter", ("old", "new"), "kwh")
BASKETS = Subject("basket_value", "shop", "basket", ("items", "visits", "days"), "channel", ("app", "web"), "euros")


def make_loop(folder: Path, subject: Subject, **changes: Any) -> Project:
    """Return the loop of a subject, with its Dag file, before its first partition."""
    source = TRAINING.format(numbers=list(subject.numbers), place=subject.place)
    project = make_project(folder, model=subject.model, training=source, **{**subject.declaration(), **changes})
    (project.dags / "loop_dags.py").rename(project.dags / f"{subject.model}.py")
    return project


def make_pictured_loops(folder: Path) -> tuple[Path, dict[str, Project]]:
    """Return the folder of the Dags of the five loops, and the loops by name, after all that has happened to them."""
    loops = [parcels(folder), groceries(folder), trams(folder), heat(folder), baskets(folder)]
    return folder / "dags", {project.model: project for project in loops}


def live(project: Project, subject: Subject, weeks: list[str], **made: Any) -> None:
    """Deliver weeks and let the loop go on after each."""
    for week in weeks:
        project.put(week, subject.rows(week, **made))
        live_through(project.workspace, week)


def parcels(folder: Path) -> Project:
    """Return the loop whose distances grew, which was trained again, and whose depots then became slower."""
    rollout = {
        "stages": [{"shadow": 100, "bake": 1}, {"canary": 25, "bake": 2}, {"live": 100}],
        "margin": 0.25,
        "min_rows": 100,
    }
    retrain = {"policy": "alarm", "alarm": {"windows": 2, "of": 3}, "cooldown": 2}
    project = make_loop(folder, PARCELS, rollout=rollout, retrain=retrain)
    live(project, PARCELS, WEEKS[:8])
    for number, week in enumerate(WEEKS[8:20], start=1):
        slower = 0.06 * min(number, 4) + 0.08 * max(number - 8, 0)
        live(project, PARCELS, [week], shift=0.5 * min(number, 4), slope=2.0 + slower)
    return project


def groceries(folder: Path) -> Project:
    """Return the loop of which a bad week made a challenger, and the weeks after it took it back."""
    rollout = {"stages": [{"shadow": 100, "bake": 1}, {"canary": 50, "bake": 1}, {"live": 100}], "min_rows": 100}
    window = {"train": {"function": f"train_{GROCERIES.model}.training:candidates", "window": 1}}
    project = make_loop(folder, GROCERIES, rollout=rollout, **window)
    live(project, GROCERIES, WEEKS[:7])
    live(project, GROCERIES, WEEKS[7:9], slope=2.3)
    live(project, GROCERIES, WEEKS[9:13])
    return project


def trams(folder: Path) -> Project:
    """Return the loop whose first version waits for a person, with rows in quarantine."""
    project = make_loop(folder, TRAMS, rollout={"approval": "human", "stages": [{"live": 100}]})
    for number, week in enumerate(WEEKS[:5]):
        project.put(week, TRAMS.rows(week, twice=(0, 3, 0, 1, 6)[number]))
        project.publish(week)
    project.register(WEEKS[4], by_hand=True)
    return project


def heat(folder: Path) -> Project:
    """Return the loop whose newest partition was refused: most of its rows came twice."""
    project = make_loop(folder, HEAT)
    live(project, HEAT, WEEKS[:8])
    project.put(WEEKS[8], HEAT.rows(WEEKS[8], twice=500))
    with suppress(PartitionRefusedError):
        project.publish(WEEKS[8])
    return project


def baskets(folder: Path) -> Project:
    """Return the loop to which nothing has happened."""
    project = make_loop(folder, BASKETS)
    live(project, BASKETS, WEEKS[:10])
    return project
