"""Keys of several columns: rows without a part, pairs that repeat, and declarations that name no key."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tests.bad_input.case import (
    Case,
    Deliver,
    bad_declaration,
    cells,
    first_row,
    published,
    quarantined,
    refused,
    statement,
    table,
    texts,
    values,
)
from tests.bad_input.cases_of_columns import changed


def keyed(*names: str) -> dict[str, Any]:
    """Return the fields of a case whose loop has a key of several columns from its first partition on."""
    return {"data": {"key": list(names)}, "contract": {"key": list(names)}, "fresh": True}


def columns_of_text(**first: list[str]) -> Deliver:
    """Deliver the good week with the first texts of some columns replaced."""

    def spoil(rows: pa.Table) -> pa.Table:
        for name, replaced in first.items():
            all_values = [*replaced, *rows.column(name).to_pylist()[len(replaced) :]]
            rows = rows.set_column(rows.column_names.index(name), name, pa.array(all_values, pa.string()))
        return rows

    return table(spoil)


JOINED_KEYS: list[Case] = [
    quarantined(
        "a row without one part of its key",
        "kind: is null",
        deliver=values("kind", None),
        **keyed("id", "kind"),
    ),
    quarantined(
        "a row whose part of the key is an empty text",
        "kind: is null",
        deliver=cells("kind", ""),
        source="csv",
        **keyed("id", "kind"),
    ),
    quarantined(
        "a row whose part of the key is of another type",
        "n: 'seven' is no int",
        deliver=first_row(n="seven"),
        source="csv",
        **keyed("id", "n"),
    ),
    quarantined(
        "two rows with the same values in all columns of the key",
        "kind+id: is not unique: 'a+twin' stands there 2 times with different values",
        deliver=columns_of_text(id=["twin", "twin"], kind=["a", "a"]),
        bad=2,
        **keyed("kind", "id"),
    ),
    quarantined(
        "a number of the key that is written in two ways",
        "id+n: is not unique: 'twin+7' stands there 2 times with different values",
        deliver=texts({"id": ["twin", "twin"], "n": ["7", "+007"]}),
        bad=2,
        source="csv",
        **keyed("id", "n"),
    ),
    published(
        "two rows that differ in one column of the key",
        deliver=columns_of_text(id=["twin", "twin"], kind=["a", "b"]),
        **keyed("id", "kind"),
    ),
    published(
        "parts that hold the sign between the parts of a key",
        deliver=columns_of_text(id=["a+b", "a", "a\\", "a"], kind=["c", "b+c", "+c", "\\+c"]),
        **keyed("id", "kind"),
    ),
    quarantined(
        "two rows of a database with the same values in all columns of the key",
        "id+n: is not unique: 'twin+7' stands there 2 times with different values",
        deliver=statement(
            "UPDATE {table} SET id = 'twin', n = 7 WHERE id IN (SELECT id FROM {table} ORDER BY at DESC LIMIT 2)"
        ),
        bad=2,
        source="sql",
        **keyed("id", "n"),
    ),
    refused(
        "a file without a part of the key",
        "column 'kind' (text in the contract) is missing",
        deliver=table(lambda rows: rows.drop_columns("kind")),
        **keyed("id", "kind"),
    ),
    refused(
        "a file without a part of the key, without a contract",
        "column 'kind', the declared key, is missing",
        deliver=table(lambda rows: rows.drop_columns("kind")),
        **{**keyed("id", "kind"), "contract": None},
    ),
    refused(
        "a column named like the one that holds the whole key, without a contract",
        "column 'id+kind' has the name of the column that holds the whole key id, kind",
        deliver=table(lambda rows: rows.append_column("id+kind", rows.column("id"))),
        **{**keyed("id", "kind"), "contract": None},
    ),
    bad_declaration(
        "a key that lists no column",
        "contract.yaml",
        "key: lists no column",
        deliver=values("x", 1.0),
        changed={"key": []},
    ),
    bad_declaration(
        "a key that names a column twice",
        "key: names 'id' more than once",
        deliver=values("x", 1.0),
        changed={"key": ["id", "id"]},
    ),
    bad_declaration(
        "a key with a column that the contract does not have",
        "key: 'kinds' is none of the columns; did you mean 'kind'?",
        deliver=values("x", 1.0),
        changed={"key": ["id", "kinds"]},
    ),
    bad_declaration(
        "a key whose columns stand in another order than in the contract",
        "the contract says key: ['kind', 'id'], the loop says ['id', 'kind']",
        deliver=values("x", 1.0),
        changed={"key": ["kind", "id"]},
        data={"key": ["id", "kind"]},
    ),
    bad_declaration(
        "a key with a column that may be missing",
        "key: 'z' is optional, and a row without a part of its key is no row",
        deliver=values("x", 1.0),
        changed={**changed(z={"type": "text", "optional": True}), "key": ["id", "z"]},
    ),
    bad_declaration(
        "a column with the name of the one that holds the whole key",
        "'id+kind' is the name of the column that holds the whole key",
        deliver=values("x", 1.0),
        changed={**changed(**{"id+kind": {"type": "text", "optional": True}}), "key": ["id", "kind"]},
    ),
    bad_declaration(
        "a key that holds the label",
        "data: key: 'y' is the label, which a key cannot hold",
        deliver=values("x", 1.0),
        data={"key": ["id", "y"]},
    ),
]
