"""Partitions whose every row looks fine, and that are wrong as a whole: keys, empty columns, history, leakage."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.bad_input.case import Case, Deliver, column, published, quarantined, refused, table, values
from tests.bad_input.world import BAD, CONTRACT, HISTORY, ROWS, World, good_rows

MILLION = 1_000_000


def with_other_keys(rows: pa.Table, suffix: str) -> pa.Table:
    """Return the rows under other keys."""
    return rows.set_column(0, "id", pc.binary_join_element_wise(rows["id"], suffix, ""))


def with_two_leaks(rows: pa.Table) -> pa.Table:
    """Return the rows with a copy of the label and a date after every row."""
    leaking = rows.set_column(rows.column_names.index("x"), "x", pc.multiply(rows["y"], 2.0))
    return leaking.set_column(rows.column_names.index("day"), "day", pa.array([date(2013, 2, 5)] * rows.num_rows))


def with_outage(rows: pa.Table) -> pa.Table:
    """Return the rows, which are in the order of their time, with a feature and the label null for a sixth of them."""
    off = pa.array([rows.num_rows // 3 <= row < rows.num_rows // 2 for row in range(rows.num_rows)])
    for name in ("x", "y"):
        values = pc.if_else(off, pa.scalar(None, pa.float64()), rows[name])
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows


def nulls(name: str) -> Deliver:
    """Deliver the good week with a column that holds nothing."""
    return column(name, lambda rows: pa.nulls(rows.num_rows, rows[name].type))


def deliver_distinct(world: World) -> None:
    """Deliver a million rows, each with a category of its own."""
    rows = good_rows(BAD, 1000)
    many = pa.concat_tables([rows] * (MILLION // rows.num_rows)).combine_chunks()
    numbers = pa.array(np.arange(MILLION)).cast(pa.string())
    many = many.set_column(0, "id", numbers)
    world.put(BAD, many.set_column(4, "kind", pc.binary_join_element_wise("kind number ", numbers, "")))


def optional_is_null(world: World) -> None:
    """Assert that a column which may be missing is kept as null."""
    assert world.reader.snapshots.read(BAD)["n"].null_count == ROWS


def no_warnings(world: World) -> None:
    """Assert that nobody was warned."""
    assert world.records("snapshot_published", BAD)[0].details.warnings == ()


def one_copy_is_kept(world: World) -> None:
    """Assert that of two equal rows one was published."""
    stored = world.reader.snapshots.read(BAD)["id"].to_pylist()
    assert sorted(stored) == sorted(good_rows(BAD)["id"].to_pylist())


OPTIONAL: dict[str, Any] = {"columns": {**CONTRACT["columns"], "n": {"type": "int", "optional": True}}}

KEYS: list[Case] = [
    quarantined(
        "the same row twice",
        "stands there 2 times, and this row is a copy",
        deliver=table(lambda rows: pa.concat_tables([rows, rows.slice(3, 1)])),
        arrived=ROWS + 1,
        check=one_copy_is_kept,
    ),
    quarantined(
        "two rows with one key and different values",
        "stands there 2 times with different values",
        deliver=values("id", "twice", "twice"),
        bad=2,
    ),
    refused(
        "a delivery with every row twice",
        "200 of 400 rows are bad (50.00%)",
        "most often id: is not unique (200 rows)",
        deliver=table(lambda rows: pa.concat_tables([rows, rows])),
        arrived=2 * ROWS,
        bad=ROWS,
    ),
    quarantined("a row without a key", "id: is null", deliver=values("id", None)),
]
WHOLE: list[Case] = [
    published(
        "another week's delivery under the name of this one",
        "200 of 200 rows lie before the partition, which goes from 2013-01-20T00:00:00 to 2013-01-27T00:00:00",
        "the rows are those of partition 2013-01-20T00:00:00, every one",
        deliver=lambda world: world.put(BAD, good_rows(HISTORY[-1])),
    ),
    published(
        "a first partition whose rows mostly lie before it",
        "101 of 200 rows lie before the partition",
        deliver=lambda world: world.put(BAD, pa.concat_tables([good_rows(HISTORY[-1])[:101], good_rows(BAD)[101:]])),
        fresh=True,
    ),
    published("a column of nothing but nulls in the first partition", deliver=nulls("kind"), fresh=True),
    refused(
        "a column of nothing but nulls in the first partition, without a contract",
        "column 'kind' holds nothing but nulls, which have no type: declare a contract",
        deliver=column("kind", lambda rows: pa.nulls(rows.num_rows)),
        fresh=True,
        contract=None,
    ),
    refused(
        "a column of nothing but nulls that used to hold values",
        "empty: kind: none of the 200 rows holds a value",
        deliver=nulls("kind"),
        stage="validation",
    ),
    published("labels that have not arrived yet", deliver=nulls("y"), check=no_warnings),
    published(
        "a column that is missing where the contract says optional: true",
        deliver=table(lambda rows: rows.drop_columns(["n"])),
        contract=OPTIONAL,
        fresh=True,
        check=optional_is_null,
    ),
    published(
        "a column that used to vary and holds one value",
        "constant: n: all 200 values are the same",
        deliver=column("n", lambda rows: pa.array([7] * rows.num_rows)),
    ),
    published(
        "a label of one class",
        "constant: y: all 200 values are the same",
        deliver=column("y", lambda rows: pa.array([0.0] * rows.num_rows)),
    ),
    published(
        "labels that are unlike all before",
        "label: the label's mean is",
        deliver=column("y", lambda rows: pc.add(rows["y"], 9.0)),
    ),
    published("a million rows, each with a category of its own", deliver=deliver_distinct, arrived=MILLION, fresh=True),
    published(
        "categories that were never there before",
        "categories: kind: 100.0% of the values are none of the 3 known",
        deliver=column("kind", lambda rows: pa.array([f"new {row}" for row in range(rows.num_rows)])),
    ),
    published(
        "one value that takes far more of a column than before",
        "one_value: kind: 'a' is",
        deliver=column("kind", lambda rows: pa.array(["a"] * (ROWS - 9) + ["b"] * 9)),
    ),
    published(
        "far fewer rows than before",
        "row_count: 20 rows; the 3 partitions before let expect",
        deliver=table(lambda rows: rows.slice(0, 20)),
        arrived=20,
    ),
    published(
        "a delivery that is there twice under other keys",
        "duplicates: 50.00% of the rows repeat another one in all but the key",
        deliver=table(lambda rows: pa.concat_tables([rows, with_other_keys(rows, "b")])),
        arrived=2 * ROWS,
    ),
    published(
        "a delivery that is there three times under other keys",
        "row_count: 600 rows",
        "duplicates:",
        deliver=table(lambda rows: pa.concat_tables([rows, with_other_keys(rows, "b"), with_other_keys(rows, "c")])),
        arrived=3 * ROWS,
    ),
    refused(
        "a feature that nearly is the label",
        "leakage: x leaves",
        "of the label's variance open",
        deliver=column("x", lambda rows: pc.multiply(rows["y"], 2.0)),
        stage="validation",
    ),
    refused(
        "a feature that is only known after the event",
        "leakage: day lies after the row's time in 100.0% of the rows",
        deliver=column("day", lambda rows: pa.array([date(2013, 2, 5)] * rows.num_rows)),
        stage="validation",
    ),
    refused(
        "two leaks at once",
        "x leaves 0.000% of the label's variance open (take it out, or declare it in the contract as feature: false)",
        "day lies after the row's time in 100.0% of the rows, by up to ",
        "known_ahead: true if it is known when a prediction is made, otherwise as feature: false",
        deliver=table(with_two_leaks),
        stage="validation",
    ),
    published(
        "a date after the event that is known ahead, as a due date is",
        deliver=column("day", lambda rows: pa.array([date(2013, 2, 5)] * rows.num_rows)),
        contract={"columns": {**CONTRACT["columns"], "day": {"type": "date", "known_ahead": True}}},
    ),
    published(
        "a sensor that is off for a day, and the label with it",
        deliver=table(with_outage),
    ),
]
