"""Tables and texts as nobody would deliver them, for Hypothesis: right in most columns, so that some go through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.bad_input.world import BAD

END = datetime.fromisoformat(BAD).replace(tzinfo=UTC)
CONTRACT: dict[str, Any] = {
    "contract": "orders",
    "key": "id",
    "time": "at",
    "deny": ["*passport*"],
    "ignore": ["_*", "* *"],
    "columns": {
        "id": {"type": "text", "nullable": False},
        "at": {"type": "time", "nullable": False},
        "x": {"type": "float", "nullable": False},
        "n": {"type": "int"},
        "kind": {"type": "text", "optional": True},
        "y": {"type": "float", "finite": False},
    },
}
NAMES = list(CONTRACT["columns"])
MICROSECONDS = pa.timestamp("us", tz="UTC")

moments = st.integers(-10 * 86_400, 2 * 86_400).map(lambda seconds: END + timedelta(seconds=seconds))
floats = st.one_of(st.floats(-2000, 2000), st.floats(), st.just(0.0))
words = st.one_of(st.sampled_from(["a", "b", ""]), st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
odd_names = st.sampled_from(
    ["_loaded", "two words", "passport", "partition", "", "X", "<b>", "x", "a.b", "a/b", "straße", "z" * 200]
)

# For each column its own type, then others that say the same, so that every one of them may go through.
RIGHT: dict[str, list[tuple[pa.DataType, st.SearchStrategy[Any]]]] = {
    "id": [(kind, st.sampled_from([f"k{row}" for row in range(40)])) for kind in (pa.string(), pa.large_string())],
    "at": [
        *((pa.timestamp(unit, tz="UTC"), moments) for unit in ("us", "ns", "ms")),
        (pa.timestamp("us", tz="Europe/Berlin"), moments),
    ],
    "x": [(pa.float64(), floats), (pa.float32(), st.floats(width=32))],
    "n": [
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.uint64(), st.integers(0, 2**64 - 1)),
        (pa.int8(), st.integers(-5, 5)),
    ],
    "kind": [(pa.string(), words), (pa.dictionary(pa.int32(), pa.string()), words), (pa.null(), st.none())],
    "y": [(pa.float64(), floats), (pa.null(), st.none())],
}
WRONG: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), words),
    (pa.int64(), st.integers(-9, 9)),
    (pa.float64(), floats),
    (pa.bool_(), st.booleans()),
    (pa.binary(), st.binary(max_size=4)),
    (pa.list_(pa.int64()), st.lists(st.integers(-9, 9), max_size=2)),
    (pa.struct([("a", pa.int64())]), st.builds(dict, a=st.integers(-9, 9))),
    (pa.timestamp("us"), moments.map(lambda moment: moment.replace(tzinfo=None))),
    (pa.date32(), moments.map(datetime.date)),
    (pa.duration("s"), st.integers(0, 9).map(lambda seconds: timedelta(seconds=seconds))),
    (pa.decimal128(9, 2), st.integers(-99, 99).map(Decimal)),
    (pa.null(), st.none()),
]


@st.composite
def columns(draw: st.DrawFn, name: str, rows: int) -> pa.Array:
    """Draw the values of a column of the contract; one time in forty of a type that is none of its own."""
    kind, strategy = draw(st.sampled_from(WRONG if draw(st.integers(0, 39)) == 0 else RIGHT[name]))
    values = draw(st.lists(strategy, min_size=rows, max_size=rows))
    empty = draw(st.sets(st.integers(0, max(rows - 1, 0)), max_size=2))
    return pa.array([None if place in empty else value for place, value in enumerate(values)], kind)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table that is nearly one of the contract's."""
    rows = draw(st.integers(0, 30))
    names = draw(st.permutations(NAMES))
    left_out = draw(st.integers(0, 59))
    column_names = [name for place, name in enumerate(names) if place != left_out]
    arrays = [draw(columns(name, rows)) for name in column_names]
    if draw(st.integers(0, 7)) == 0:
        kind, strategy = draw(st.sampled_from(WRONG))
        arrays.append(pa.array(draw(st.lists(strategy, min_size=rows, max_size=rows)), kind))
        column_names = [*column_names, draw(odd_names)]
    return pa.Table.from_arrays(arrays, names=column_names)


cell = st.one_of(st.sampled_from(["", "1", "1.5", "nan", "inf", "1e400", "abc", "9" * 30, 'a"b', "a\nb"]), words)
own_cells: dict[str, st.SearchStrategy[str]] = {
    "id": st.sampled_from([f"k{row}" for row in range(40)]),
    "at": moments.map(str),
    "x": st.floats(-2000, 2000).map(str),
    "n": st.integers(-(2**64), 2**64).map(str),
    "kind": words,
    "y": floats.map(str),
}


@st.composite
def csv_rows(draw: st.DrawFn) -> list[list[str]]:
    """Draw the rows of a CSV file with the contract's header: some cells, and the length of some rows, are wrong."""
    rows = []
    for _ in range(draw(st.integers(0, 25))):
        row = [draw(cell if draw(st.integers(0, 14)) == 0 else own_cells[name]) for name in NAMES]
        odd = draw(st.integers(0, 24))
        rows.append(row[:-1] if odd == 0 else [*row, "more"] if odd == 1 else row)
    return rows


any_texts = st.one_of(
    st.binary(max_size=200),
    st.text(st.sampled_from('idatxnky,;"\n\r\t é0'), max_size=120).map(str.encode),
    st.text(st.sampled_from('k1,."\n\r-'), max_size=120).map(lambda text: f"{','.join(NAMES)}\n{text}".encode()),
)
