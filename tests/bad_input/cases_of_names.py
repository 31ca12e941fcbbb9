"""Names of columns that other people chose: markup, accents, twins, words that tables need."""

from __future__ import annotations

from typing import Any

from tests.bad_input.case import Case, bad_declaration, cells, published, refused, table
from tests.bad_input.cases_of_columns import changed
from tests.bad_input.cases_of_dialects import Cells, good, writer
from tests.bad_input.world import CONTRACT

COLUMNS: dict[str, Any] = CONTRACT["columns"]
DECOMPOSED = "Cafe\u0301 d'Or"


def named(**names: str) -> Any:
    """Return a writer that writes other names into the header."""

    def rename(all_cells: Cells) -> Cells:
        return [[names.get(name, name) for name in all_cells[0]], *all_cells[1:]]

    return writer(rename)


def with_column(name: str) -> Any:
    """Deliver the good week with one more column."""
    return table(lambda rows: rows.append_column(name, rows.column("x")))


def arrives_as(name: str, arriving: str) -> dict[str, Any]:
    """Return the contract with a column that arrives under another name."""
    return changed(**{name: {**COLUMNS[name], "from": arriving}})


NAMES: list[Case] = [
    published(
        "a column with markup in its name, ignored",
        deliver=with_column("<script>"),
        contract={"ignore": ["_*", "<script>"]},
    ),
    published(
        "a column without a name, ignored",
        deliver=with_column(""),
        contract={"ignore": ["_*", ""]},
    ),
    published(
        "a column named like one that snapshots need, ignored",
        deliver=with_column("partition"),
        contract={"ignore": ["partition"]},
    ),
    published(
        "a column with a name that is refused, declared under another",
        deliver=good,
        source="csv",
        writer=named(x="R&D cost"),
        contract=arrives_as("x", "R&D cost"),
        fresh=True,
    ),
    published(
        "a column named partition, declared under another name",
        deliver=good,
        source="csv",
        writer=named(kind="partition"),
        contract=arrives_as("kind", "partition"),
        fresh=True,
    ),
    published(
        "a name whose accents are letters of their own, where the contract has them in one",
        deliver=good,
        source="csv",
        writer=named(kind=DECOMPOSED),
        contract=arrives_as("kind", "Caf\u00e9 d'Or"),
        fresh=True,
    ),
    refused(
        "a column that should arrive under another name, and does not",
        "column 'x', which arrives as 'R&D cost', (float in the contract) is missing",
        "column 'x' (string) is new",
        deliver=good,
        source="csv",
        changed=arrives_as("x", "R&D cost"),
    ),
    refused(
        "names that differ in case alone, without a contract",
        "columns 'x' and 'X' differ only in case, and tables keep one of them",
        deliver=with_column("X"),
        contract=None,
        fresh=True,
    ),
    bad_declaration(
        "columns of a contract that differ in case alone",
        "'x' and 'X' differ only in case",
        deliver=cells("x", "1.5"),
        source="csv",
        changed=changed(X={"type": "float"}),
    ),
    bad_declaration(
        "two columns of a contract that arrive under one name",
        "'x' and 'z' both arrive as 'x'",
        deliver=cells("x", "1.5"),
        source="csv",
        changed=changed(z={"type": "float", "from": "x"}),
    ),
    bad_declaration(
        "a column of a contract with a name that snapshots need",
        "'partition' is a name that snapshots need; give it another, and say from: 'partition'",
        deliver=cells("x", "1.5"),
        source="csv",
        changed=changed(partition={"type": "text"}),
    ),
]
