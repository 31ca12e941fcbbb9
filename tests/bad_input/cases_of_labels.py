"""Deliveries of labels that are not as they should be: a case is data, as those of rows are."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
from pyarrow import orc

from tests.bad_input.world import BAD, HISTORY, good_rows
from tests.unit.core.sources.workbooks import workbook

Labels = dict[str, float]
LABELLED = HISTORY[-1]
"""The week whose labels are delivered with the tick of the case."""
DAY = BAD[:10]


@dataclass(frozen=True)
class LabelCase:
    """A delivery of labels that is not as it should be.

    Parameters
    ----------
    line : str
        The delivery in words.
    outcome : str
        The outcome; "left out" are single labels, and the others are taken.
    words : tuple of str
        Texts that the message must contain: the reason of a refusal, or the record of what was left out.
    kind : str
        Kind of the source.
    write : callable
        Returns the bytes of the file with the labels; None where there is no file.
    bad : dict
        Numbers of labels that are left out, by their reasons.
    taken : int
        Number of labels that are taken.
    source : dict
        Further keys of ``data.labels.source``.
    """

    line: str
    outcome: Literal["refused", "left out", "declaration error", "not ready"]
    words: tuple[str, ...]
    kind: str
    write: Callable[[Labels], bytes | None]
    bad: dict[str, int] = field(default_factory=dict)
    taken: int = 0
    source: dict[str, Any] = field(default_factory=dict)


def good_labels() -> Labels:
    """Return the 200 labels of the week, by their keys."""
    rows = good_rows(LABELLED)
    return dict(zip(rows["id"].to_pylist(), rows["y"].to_pylist(), strict=True))


def json_lines(labels: Labels) -> str:
    return "".join(f"{json.dumps({'id': key, 'y': value})}\n" for key, value in labels.items())


def lines(labels: Labels, *, sign: str = ".", words: tuple[str, str] | None = None) -> list[str]:
    """Return labels as lines of CSV with semicolons, with a sign of decimals, or as words for above zero and below."""
    texts = [words[value <= 0] if words else f"{value:.6f}".replace(".", sign) for value in labels.values()]
    return ["id;y", *(f"{key};{text}" for key, text in zip(labels, texts, strict=True))]


def text(all_lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in all_lines).encode()


def sheet(labels: Labels, *more: list[Any]) -> bytes:
    return workbook({"labels": [["id", "y"], *map(list, labels.items()), *more]})


def orc_file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    orc.write_table(table, sink)
    return sink.getvalue()


def columns(labels: Labels) -> pa.Table:
    return pa.table({"id": list(labels), "y": list(labels.values())})


SEMICOLONS = {"delimiter": ";"}
COMMAS = {"delimiter": ";", "decimal": ","}

LABELS: list[LabelCase] = [
    LabelCase("no delivery at all", "not ready", (f"labels/{DAY}.jsonl is not there yet",), "json", lambda _: None),
    LabelCase(
        "labels in a truncated workbook",
        "refused",
        (f"labels/{DAY}.xlsx cannot be read: it is no xlsx workbook",),
        "xlsx",
        lambda labels: sheet(labels)[:500],
    ),
    LabelCase(
        "a sheet of labels with a row of totals",
        "left out",
        ("200 labels came", "1 left out: broken line"),
        "xlsx",
        lambda labels: sheet(labels, [None, sum(labels.values())]),
        {"broken line": 1},
        200,
    ),
    LabelCase(
        "labels in JSON lines that are cut off in the last",
        "left out",
        ("199 labels came", "1 left out: broken line"),
        "json",
        lambda labels: json_lines(labels).encode()[:-9],
        {"broken line": 1},
        199,
    ),
    LabelCase(
        "labels in JSON lines whose compression is cut off",
        "refused",
        (f"labels/{DAY}.jsonl.gz cannot be read",),
        "json",
        lambda labels: gzip.compress(json_lines(labels).encode())[:-200],
        source={"uri": "labels/{partition}.jsonl.gz"},
    ),
    LabelCase(
        "labels as one JSON document",
        "refused",
        ("1 of 1 rows are bad (broken line: 1); data.tolerance allows 1.0%",),
        "json",
        lambda labels: json.dumps([{"id": key, "y": value} for key, value in labels.items()]).encode(),
    ),
    LabelCase(
        "labels with decimal commas that are not declared",
        "refused",
        ("200 of 200 rows are bad (no number: 200); data.tolerance allows 1.0%",),
        "csv",
        lambda labels: text(lines(labels, sign=",")),
        source=SEMICOLONS,
    ),
    LabelCase(
        "labels with decimal commas that are declared, one of them with a point",
        "left out",
        ("199 labels came", "1 left out: no number"),
        "csv",
        lambda labels: text([*lines(labels, sign=",")[:-1], f"{LABELLED[:10]}-199;1.5"]),
        {"no number": 1},
        199,
        COMMAS,
    ),
    LabelCase(
        "labels in words for truth that are declared, and another word",
        "left out",
        ("199 labels came", "1 left out: no number"),
        "csv",
        lambda labels: text([*lines(labels, words=("ja", "nein"))[:-1], f"{LABELLED[:10]}-199;vielleicht"]),
        {"no number": 1},
        199,
        {**SEMICOLONS, "true_values": ["ja"], "false_values": ["nein"]},
    ),
    LabelCase(
        "a label whose key is a word for null",
        "left out",
        ("199 labels came", "1 left out: no key"),
        "csv",
        lambda labels: text([*lines(labels)[:-1], "n/a;1.5"]),
        {"no key": 1},
        199,
        {**SEMICOLONS, "nulls": ["n/a"]},
    ),
    LabelCase(
        "labels in an ORC file that is cut off",
        "refused",
        (f"labels/{DAY}.orc cannot be read",),
        "orc",
        lambda labels: orc_file(columns(labels))[:-40],
    ),
    LabelCase(
        "a list of labels for each key",
        "refused",
        ("column 'y' has the type list<item: double>; a label is a number",),
        "orc",
        lambda labels: orc_file(pa.table({"id": list(labels), "y": [[value] for value in labels.values()]})),
    ),
    LabelCase(
        "labels under another name",
        "refused",
        ("column 'y', the declared label of data.labels, is missing; there are id, z",),
        "orc",
        lambda labels: orc_file(columns(labels).rename_columns(["id", "z"])),
    ),
    LabelCase(
        "a table of labels without a declared time of their arrival",
        "declaration error",
        ("source of kind delta is one table of all deliveries: declare time",),
        "delta",
        lambda _: None,
        source={"uri": "labels/table"},
    ),
]
