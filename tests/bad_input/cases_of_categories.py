"""Categories: declarations of levels that cannot be, values that are no level, and columns that become or were one."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from tests.bad_input.case import (
    Case,
    bad_declaration,
    cells,
    column,
    file_text,
    published,
    quarantined,
    refused,
    values,
)
from tests.bad_input.cases_of_declarations import CONTRACT_TEXT
from tests.bad_input.world import BAD, CONTRACT, HISTORY, World, good_rows

LEVELS = ["a", "b", "c"]
STRICT = {"type": "category", "levels": LEVELS, "unseen": "error"}


def kind(**fields: Any) -> dict[str, Any]:
    """Return the contract's columns with another ``kind``."""
    return {"columns": {**CONTRACT["columns"], "kind": fields}}


def declared(line: str, *words: str, name: str = "kind", **fields: Any) -> Case:
    """Return a case of a contract with a column that cannot be so."""
    before = f"  {name}: {json.dumps(CONTRACT['columns'][name])}\n"
    assert before in CONTRACT_TEXT
    text = CONTRACT_TEXT.replace(before, f"  {name}: {json.dumps(fields)}\n")
    return bad_declaration(line, "contract.yaml", *words, deliver=file_text("contract.yaml", text))


def stored_as_text(world: World) -> None:
    """Assert that the column is plain text in the snapshot, with the values that arrived."""
    stored = world.reader.snapshots.read(BAD)
    assert stored.schema.field("kind").type == pa.string()
    assert world.reader.state().published[BAD].columns["kind"] == "string"


def first_value_is(value: str | None) -> Any:
    """Return a check that the first row is kept with a value."""

    def check(world: World) -> None:
        stored_as_text(world)
        rows = world.reader.snapshots.read(BAD)
        kinds = dict(zip(rows["id"].to_pylist(), rows["kind"].to_pylist(), strict=True))
        assert kinds[good_rows(BAD)["id"][0].as_py()] == value

    return check


def history_is_readable(world: World) -> None:
    """Assert that the weeks before the change have the columns that they had."""
    stored_as_text(world)
    published_columns = [world.reader.state().published[key].columns for key in [*HISTORY, BAD]]
    assert all(columns == published_columns[0] for columns in published_columns)


DECLARATIONS = [
    declared("a level stands there twice", "'a' stands there 2 times", type="category", levels=["a", "b", "a"]),
    declared("the list of levels is empty", "the list is empty", type="category", levels=[]),
    declared("a level is blank", "' ' has no character that can be seen", type="category", levels=["a", " "]),
    declared(
        "a level is a number",
        "columns.kind.levels",
        "1 is no text",
        "write the level in quotes",
        type="category",
        levels=["a", 1],
    ),
    declared(
        "a level is a word that YAML takes for a truth value",
        "columns.kind.levels",
        "True is no text",
        type="category",
        levels=["a", True],
    ),
    declared("the levels are no list", "columns.kind.levels", "valid tuple", type="category", levels="abc"),
    declared("levels go with a text", "levels goes with a category; the type is text", type="text", levels=LEVELS),
    declared(
        "levels go with a number", "levels goes with a category; the type is int", name="n", type="int", levels=["1"]
    ),
    declared(
        "a policy for unseen values goes with a text",
        "unseen goes with a category; the type is text",
        type="text",
        unseen="error",
    ),
    declared(
        "an unknown word says what becomes of unseen values",
        "'drop' is no word for values that are no level; write null, the default, or error",
        type="category",
        unseen="drop",
    ),
    declared("null is written as a text", "write null without quotes", type="category", unseen="null"),
    declared(
        "a masked category has levels", "only hashes of the values are kept", type="category", levels=LEVELS, mask=True
    ),
    declared("the key is a category", "key: 'id' is a category", name="id", type="category"),
]

DELIVERIES = [
    quarantined(
        "a value is no level, and unseen values are errors",
        "kind: 'd' is no level; there are 'a', 'b', 'c'",
        deliver=values("kind", "d"),
        contract=kind(**STRICT),
    ),
    quarantined(
        "a level in capitals, and unseen values are errors",
        "kind: 'A' is no level",
        deliver=values("kind", "A"),
        contract=kind(**STRICT),
    ),
    quarantined(
        "a level with a space behind it, and unseen values are errors",
        "kind: 'a ' is no level",
        deliver=cells("kind", "a "),
        source="csv",
        contract=kind(**STRICT),
    ),
    quarantined(
        "a level is missing that may not be",
        "kind: is null",
        deliver=values("kind", None),
        contract=kind(**STRICT, nullable=False),
    ),
    published(
        "a value is no level, and unseen values are null",
        deliver=values("kind", "d"),
        contract=kind(type="category", levels=LEVELS),
        check=first_value_is("d"),
    ),
    published(
        "a level is missing, and unseen values are errors",
        deliver=values("kind", None),
        contract=kind(**STRICT),
        check=first_value_is(None),
    ),
    published(
        "a new value of a category without declared levels, and unseen values are errors",
        deliver=values("kind", "d"),
        contract=kind(type="category", unseen="error"),
        check=first_value_is("d"),
    ),
    published(
        "levels in capitals and with spaces in a category without declared levels",
        deliver=values("kind", "A", "a "),
        contract=kind(type="category"),
        check=first_value_is("A"),
    ),
    published(
        "a category is encoded as a dictionary",
        deliver=column("kind", lambda rows: rows["kind"].combine_chunks().dictionary_encode()),
        contract=kind(type="category", levels=LEVELS),
        check=stored_as_text,
    ),
    refused(
        "numbers in a category",
        "column 'kind' has the type int64; the contract says category",
        deliver=column("kind", lambda rows: rows["n"]),
        contract=kind(type="category"),
    ),
    published(
        "a text becomes a category",
        deliver=values("kind"),
        changed=kind(**STRICT),
        check=history_is_readable,
    ),
    published(
        "a category becomes a text",
        deliver=values("kind", "d"),
        contract=kind(**STRICT),
        changed=kind(type="text"),
        check=history_is_readable,
    ),
    published(
        "a category is hidden from models",
        deliver=values("kind", "d"),
        contract=kind(type="category", levels=LEVELS),
        changed=kind(type="category", levels=LEVELS, feature=False),
        check=history_is_readable,
    ),
    quarantined(
        "a hidden category has a value that is no level",
        "kind: 'd' is no level",
        deliver=values("kind", "d"),
        contract=kind(**STRICT, feature=False),
    ),
]
CATEGORIES = [*DELIVERIES, *DECLARATIONS]
