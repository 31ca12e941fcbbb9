"""Columns that are missing, new, twice, in another order or of another type, and contracts that change."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tests.bad_input.case import Case, column, content, published, refused, table
from tests.bad_input.world import BAD, CONTRACT, HISTORY, World, good_rows

COLUMNS_DECLARED: dict[str, Any] = CONTRACT["columns"]


def changed(**columns: Any) -> dict[str, Any]:
    """Return the contract's columns with some added, changed or, where None is given, dropped."""
    merged = {**COLUMNS_DECLARED, **columns}
    return {"columns": {name: declared for name, declared in merged.items() if declared is not None}}


def append_column(name: str, values: Any = None) -> Any:
    """Deliver the good week with one more column."""
    return table(lambda rows: rows.append_column(name, rows.column("x") if values is None else values(rows)))


def same_order_as_declared(world: World) -> None:
    """Assert that columns which came in another order are kept in the contract's, each with its own values."""
    stored = world.reader.snapshots.read(BAD).select(list(COLUMNS_DECLARED))
    assert stored.sort_by("id").equals(good_rows(BAD).sort_by("id").cast(stored.schema))


def without_column(name: str) -> Any:
    """Return a check that a column is kept nowhere."""

    def check(world: World) -> None:
        assert name not in world.reader.snapshots.read(BAD).column_names
        assert world.records("snapshot_published", BAD)[0].details.ignored == (name,)

    return check


def old_partitions_still_train(world: World) -> None:
    """Assert that a window over partitions with and without a new column can be read."""
    from airflow_mlops.core.training.window import pin_window, read_window

    state = world.reader.state()
    window = pin_window(state, world.reader.loop.train, BAD)
    read = read_window(world.workspace, [*window.fitted, *window.holdout])
    assert len(read.rows) == 600
    assert read.features["discount"].isna().sum() == 400


CONTRACT_CHANGED = "contract 'orders' has changed in a way that partitions published before do not meet"

COLUMNS: list[Case] = [
    refused(
        "text in a column of numbers",
        "column 'x' has the type string; the contract says float",
        deliver=column("x", lambda rows: rows["x"].cast(pa.string())),
    ),
    refused(
        "whole numbers in a column of floats",
        "column 'x' has the type int64; the contract says float",
        deliver=column("x", lambda rows: rows["n"]),
    ),
    refused(
        "floats in a column of whole numbers",
        "column 'n' has the type double; the contract says int",
        deliver=column("n", lambda rows: rows["x"]),
    ),
    refused(
        "lists in a column of text",
        "column 'kind' has the type list",
        deliver=column("kind", lambda rows: pa.array([["a"]] * rows.num_rows)),
    ),
    refused(
        "another type than before, without a contract",
        "column 'x' has the type string; the partitions before have double",
        deliver=column("x", lambda rows: rows["x"].cast(pa.string())),
        contract=None,
    ),
    refused(
        "a missing column",
        "the columns differ from contract 'orders'",
        "column 'kind' (text in the contract) is missing",
        deliver=table(lambda rows: rows.drop_columns(["kind"])),
    ),
    refused(
        "a missing label, without a contract",
        "column 'y', the declared label, is missing",
        deliver=table(lambda rows: rows.drop_columns(["y"])),
        contract=None,
    ),
    refused(
        "a column that the contract does not have",
        "column 'z' (double) is new; the contract has no such column",
        deliver=append_column("z"),
    ),
    refused(
        "a column that was not there before, without a contract",
        "column 'z' is new; the partitions before have no such column",
        deliver=append_column("z"),
        contract=None,
    ),
    refused("two columns of one name", "column 'x' stands there 2 times", deliver=append_column("x")),
    refused(
        "two columns of one name in a CSV file",
        "column 'x' stands there 2 times",
        deliver=content(lambda old: old.replace(b"id,at,x,n", b"id,at,x,x", 1)),
        source="csv",
    ),
    refused(
        "names that differ in the case of their letters alone", "column 'X' (double) is new", deliver=append_column("X")
    ),
    published(
        "columns in another order",
        deliver=table(lambda rows: rows.select(rows.column_names[::-1])),
        check=same_order_as_declared,
    ),
    refused(
        "a column that the contract denies",
        "column 'passport_number' is denied by the contract ('*passport*')",
        deliver=append_column("passport_number"),
    ),
    published(
        "a column that the contract ignores", deliver=append_column("_loaded_by"), check=without_column("_loaded_by")
    ),
    refused(
        "a column name with markup in it",
        "column '<img src=x onerror=alert(1)>' has a name that is refused",
        deliver=append_column("<img src=x onerror=alert(1)>"),
    ),
    refused(
        "a column named like one that snapshots need",
        "column 'partition' has a name that snapshots need",
        deliver=append_column("partition"),
    ),
    refused("a column without a name", "column '' has a name that is refused", deliver=append_column("")),
    published(
        "the contract adds a nullable column, and says evolution: additive",
        deliver=append_column("discount"),
        changed={"evolution": "additive", **changed(discount={"type": "float"})},
        check=old_partitions_still_train,
    ),
    refused(
        "the contract adds a column, and does not say evolution: additive",
        CONTRACT_CHANGED,
        "+ 'discount' (double) is new, and the contract does not say evolution: additive",
        deliver=append_column("discount"),
        changed=changed(discount={"type": "float"}),
    ),
    refused(
        "the contract adds a column that must not be null",
        CONTRACT_CHANGED,
        "+ 'discount' (double) is new and not nullable",
        deliver=append_column("discount"),
        changed={"evolution": "additive", **changed(discount={"type": "float", "nullable": False})},
    ),
    refused(
        "the contract gives a column another type",
        CONTRACT_CHANGED,
        "~ 'n' was int64, is double",
        deliver=column("n", lambda rows: rows["x"]),
        changed=changed(n={"type": "float"}),
    ),
    refused(
        "the contract drops a column",
        CONTRACT_CHANGED,
        "- 'n' (int64) was dropped",
        deliver=table(lambda rows: rows.drop_columns(["n"])),
        changed=changed(n=None),
    ),
]
assert HISTORY
