"""The cost of many loops by the constants that other benchmarks measured: the tables and the picture of one page.

    python -m benchmarks.scale          write the tables of docs/explanation/scale.md, and its picture
    python -m benchmarks.scale take     first take the constants from build/bench.json, as far as it has them

The constants stand in ``scale_constants.json``: for each row of a benchmark its value, how many things it was measured
over, and the command. Nothing else goes into the model; a test holds the page to it.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scale_picture import Curve, draw_curves

HOUSE = Path(__file__).resolve().parents[1]
CONSTANTS = HOUSE / "benchmarks" / "scale_constants.json"
MEASURED = HOUSE / "build" / "bench.json"
PAGE = HOUSE / "docs" / "explanation" / "scale.md"
PICTURE = HOUSE / "docs" / "images" / "scale.svg"
DAY = 86_400
TASKS = 23
"""Tasks of a turn that trains and goes through shadow, canary and live."""
CORES = 8
IMPORT_SECONDS = 30
"""Airflow's limit for importing one Dag file, ``core.dagbag_import_timeout``."""
LIST_SECONDS = 1.0
"""How long a person may wait for the list of models."""
CADENCES = {"daily": 1, "hourly": 24, "every 15 minutes": 96}
ROWS = (10_000, 1_000_000, 10_000_000)
FLEETS = ((10, 1, 1_000_000), (200, 1, 10_000), (200, 24, 10_000), (200, 24, 1_000_000), (1_000, 24, 10_000))
"""Models, partitions of each a day, rows of a partition."""


WHOLE: dict[str, dict[str, Any]] = {
    "loops_300_turn": {"command": "python -m benchmarks loops_300_turn"},
    "page_300_models": {"over": 300, "command": "python -m benchmarks loops_300_turn"},
    "gateway_soak_cost": {"command": "python -m benchmarks gateway_soak"},
}
"""What a whole run of a benchmark is, for the rows that shorter runs can give, too."""


@dataclass(frozen=True)
class Constants:
    """The cost of one thing of each kind, in CPU seconds.

    Parameters
    ----------
    turn : float
        A partition of few rows through all Dags of a loop, with a training.
    imports : float
        The libraries of the stages, at most, for a task on a worker that is not warm.
    row : float
        A row of 20 columns, ingested, and scored by champion and challenger.
    parse : float
        One loop of a Dag file, at each parse.
    listed : float
        One model of the list of models.
    answer : float
        An answer of the gateway for one row.
    """

    turn: float
    imports: float
    row: float
    parse: float
    listed: float
    answer: float

    @classmethod
    def read(cls) -> Constants:
        """Return the constants as they were measured."""
        each = {name: row["value"] / row["over"] for name, row in read_rows().items()}
        return cls(
            turn=each["loops_300_turn"],
            imports=each["cold_imports"],
            row=each["ingest"] + each["batch_score"],
            parse=each["parse_300_loops"],
            listed=each["page_300_models"] / 1_000,
            answer=each["gateway_soak_cost"] / 1_000,
        )

    def partition(self, rows: float, *, warm: bool) -> float:
        """Return the CPU seconds of one partition; each of its tasks parses a Dag file of that loop alone."""
        return self.turn + rows * self.row + TASKS * (self.parse + (0 if warm else self.imports))

    def cores(self, models: float, partitions: float, rows: float, *, warm: bool) -> float:
        """Return the cores that are busy all day."""
        return models * partitions * self.partition(rows, warm=warm) / DAY

    def models(self, partitions: float, rows: float, *, warm: bool) -> float:
        """Return the models that ``CORES`` cores can keep up with."""
        return CORES * DAY / (partitions * self.partition(rows, warm=warm))

    @property
    def most_in_a_file(self) -> float:
        """The loops of one Dag file that are parsed within Airflow's limit."""
        return IMPORT_SECONDS / self.parse

    @property
    def most_listed(self) -> float:
        """The models whose list comes within the time that a person waits."""
        return LIST_SECONDS / self.listed


def read_rows() -> dict[str, dict[str, Any]]:
    """Return the measured rows by name: value, unit, number of things measured, and command."""
    rows: dict[str, dict[str, Any]] = json.loads(CONSTANTS.read_text(encoding="utf-8"))
    return rows


def take_rows() -> None:
    """Take the values of ``build/bench.json`` for the rows that it has."""
    if not MEASURED.exists():
        raise SystemExit(f"{MEASURED} is not there; run the benchmarks that {CONSTANTS.name} names first")
    measured = {row["name"]: row for row in json.loads(MEASURED.read_text())}
    rows = read_rows()
    for name, row in rows.items():
        if name in measured:
            row |= {"value": measured[name]["ours"], "unit": measured[name]["unit"], **WHOLE.get(name, {})}
    CONSTANTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def page_with_tables(page: str) -> str:
    """Return a page whose tables are written anew."""
    constants = Constants.read()
    tables = {
        "constants": constants_table(constants),
        "fleets": fleets_table(constants),
        "limits": limits_table(constants),
    }
    for name, lines in tables.items():
        matches = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", page, flags=re.DOTALL)
        if len(matches) != 1:
            raise ValueError(f"{PAGE.name} has {len(matches)} places for the table {name!r}; it must have one")
        page = page.replace(f"<!-- {name} -->\n{matches[0]}<!--", f"<!-- {name} -->\n{lines}\n<!--")
    return page


def constants_table(constants: Constants) -> str:
    """Return the table of the constants, each with the command that measured it."""
    rows, milli = read_rows(), 1_000.0
    words = (
        (
            "loops_300_turn",
            f"a partition of 120 rows through all Dags, with a training: {TASKS} tasks",
            constants.turn,
            "s",
        ),
        ("cold_imports", "the libraries of all stages, of which a cold task imports its part", constants.imports, "s"),
        ("ingest", "a million rows of 20 columns ingested", rows["ingest"]["value"], "s"),
        (
            "batch_score",
            "a million rows scored by champion and challenger, boosted trees both",
            rows["batch_score"]["value"],
            "s",
        ),
        ("parse_300_loops", "one loop in a Dag file, at each parse", milli * constants.parse, "ms"),
        ("page_300_models", "one model on the list of models", milli * constants.listed, "ms"),
        ("gateway_soak_cost", "an answer of the gateway for one row", milli * constants.answer, "ms"),
    )
    lines = [f"| {what} | {value:.3g} CPU {unit} | `{rows[name]['command']}` |" for name, what, value, unit in words]
    return table(("one of", "costs", "measured by"), lines)


def fleets_table(constants: Constants) -> str:
    """Return the table of some fleets: the cores that they keep busy."""
    lines = []
    for models, partitions, rows in FLEETS:
        warm, cold = (constants.cores(models, partitions, rows, warm=warm) for warm in (True, False))
        share = rows * constants.row / constants.partition(rows, warm=True)
        lines.append(f"| {models:,} | {partitions} | {rows:,} | {number(warm)} | {number(cold)} | {share:.0%} |")
    return table(
        ("models", "partitions a day", "rows each", "cores, warm", "cores, cold at most", "of it rows, warm"), lines
    )


def limits_table(constants: Constants) -> str:
    """Return the table of the models at which each limit is met, the first one in bold."""
    lines = []
    for words, partitions in CADENCES.items():
        for rows in ROWS:
            limits = [
                constants.models(partitions, rows, warm=False),
                constants.models(partitions, rows, warm=True),
                constants.most_in_a_file,
                constants.most_listed,
            ]
            # A setting warms the workers, so what breaks first is looked for among the others.
            first = min(limits[1:])
            shown = [f"**{number(limit)}**" if limit == first else number(limit) for limit in limits]
            lines.append(f"| {words} | {rows:,} | {' | '.join(shown)} |")
    heads = (f"{CORES} cores, cold, at least", f"{CORES} cores, warm", "one Dag file", "the list in 1 s")
    return table(("partitions", "rows each", *heads), lines)


def table(heads: tuple[str, ...], lines: list[str]) -> str:
    """Return a table of Markdown."""
    return "\n".join([f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *lines])


def number(value: float) -> str:
    """Return a number with two digits.

    >>> number(0.1234), number(4.16), number(1234.5)
    ('0.12', '4.2', '1,200')
    """
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def draw() -> str:
    """Return the picture: how many models each limit bears, by the partitions of a day."""
    constants = Constants.read()
    partitions = [1.0, 3.0, 10.0, 30.0, 96.0]

    def curve(words: str, class_: str, rows: int, *, warm: bool) -> Curve:
        return Curve(words, class_, [(each, constants.models(each, rows, warm=warm)) for each in partitions])

    def flat(words: str, limit: float) -> Curve:
        return Curve(words, "limit", [(each, limit) for each in (partitions[0], partitions[-1])])

    return draw_curves(
        [
            curve("10,000 rows, warm", "line", 10_000, warm=True),
            curve("1,000,000 rows, warm", "good-line", 1_000_000, warm=True),
            curve("10,000 rows, cold", "bad-line", 10_000, warm=False),
            flat("one Dag file", constants.most_in_a_file),
            flat("the list in 1 s", constants.most_listed),
        ],
        across="partitions of a model a day",
        up=f"models on {CORES} cores",
    )


def main() -> None:
    """Write the tables of the page, and its picture."""
    if sys.argv[1:] == ["take"]:
        take_rows()
    elif sys.argv[1:]:
        raise SystemExit(f"{sys.argv[1]!r} is no word of this command; there is take")
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
