"""Draft a contract from data, for a person to review: what is guessed is said, and why."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts, is_text
from airflow_mlops.core.data.drafting.learn_columns import LearnedTable
from airflow_mlops.core.data.drafting.personal_columns import looks_personal
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError

KEY_WORDS = ("id", "key", "uuid", "guid", "number", "no", "code")
TIME_WORDS = ("time", "timestamp", "at", "datetime", "date", "day", "on")
WORDS: dict[pa.DataType, str] = {
    pa.string(): "text",
    pa.int64(): "int",
    pa.float64(): "float",
    pa.bool_(): "bool",
    pa.date32(): "date",
}
ODD_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True)
class ContractDraft:
    """A contract as YAML, its key, what was guessed in sentences, and the columns that look personal."""

    text: str
    key: str
    remarks: tuple[str, ...]
    personal: frozenset[str]


def draft_contract(
    table: LearnedTable,
    files: Sequence[Path],
    *,
    name: str | None = None,
    key: str | None = None,
    time: str | None = None,
) -> ContractDraft:
    """Return a contract that the files it was drafted from meet.

    Parameters
    ----------
    table : LearnedTable
        What the files say.
    files : sequence of Path
        Named in the draft, and the name is taken from them where none is given.
    name, key, time : str, optional
        Name of the data set, in small letters, and the columns with these roles; guessed if not given.

    Raises
    ------
    DeclarationError
        If a stated key is null or repeats, a stated time holds no times, or neither can be guessed.
    """
    name = name or name_of(files)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise DeclarationError(f"{name!r} is no name: small letters, digits, _ and -, at most 63; say one with --name")
    keyed, key_said = chosen_key(table, key)
    timed, time_said = chosen_time(table, time)
    personal = {
        column.name: found
        for column in table.columns.values()
        if (found := looks_personal(column.name, column.examples)) is not None
    }
    remarks = [said for said in (key_said, time_said) if said]
    remarks += [f"{each}: {why}, so it is tagged {tag}" for each, (tag, why) in personal.items()]
    remarks += [
        f"{column.name}: its type {column.unsupported} cannot be kept, so it is ignored"
        for column in table.columns.values()
        if column.unsupported
    ]
    if table.broken:
        remarks.append(f"{table.broken:,} rows could not be split into columns and were left out")
    rows = f"{table.rows:,} rows of {files[0].name}" + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
    lines = [
        f"# A draft from {rows}. Review every line before it is used: it says what was,",
        "# not what should be. The label has to stay nullable where it arrives later than its row.",
        *(f"# Guessed: {printable(remark)}." for remark in remarks),
        f"contract: {quoted(name)}",
        f"key: {quoted(keyed)}",
        f"time: {quoted(timed)}",
    ]
    ignored = [column.name for column in table.columns.values() if column.unsupported]
    if ignored:
        # What stands in brackets is a pattern, so that a name with a star in it is taken as it is.
        patterns = ", ".join(quoted(re.sub(r"([*?\[])", r"[\1]", each), always=True) for each in ignored)
        lines.append(f"ignore: [{patterns}]")
    lines.append("columns:")
    lines += [
        column_line(column, table, personal.get(column.name), free=column.name in (keyed, timed))
        for column in table.columns.values()
        if not column.unsupported
    ]
    return ContractDraft("\n".join(lines) + "\n", keyed, tuple(remarks), frozenset(personal))


def column_line(column: ColumnFacts, table: LearnedTable, personal: tuple[str, str] | None, *, free: bool) -> str:
    """Return the line of one column; ``free`` is one that stays though it is personal: the key, the time."""
    fields = [f"type: {word(column.kind)}"]
    if pa.types.is_timestamp(column.kind) and not column.kind.tz:
        fields.append("zone: none")
    if not column.nulls and column.rows:
        fields.append("nullable: false")
    if column.rows < table.rows:
        fields.append("optional: true")
    if column.odd:
        fields.append("finite: false")
    notes = []
    if personal:
        fields.append(f"privacy: {personal[0]}")
        if not free:
            fields.append("feature: false")
        notes.append(f"REVIEW: {personal[1]}; mask: true hides it" if not free else f"REVIEW: {personal[1]}")
    if column.means_null:
        texts = ", ".join(map(repr, column.means_null))
        notes.append(f"REVIEW: {word(column.read_as)} if {texts} mean null: then add them to nulls")
    if column.nulls == column.rows:
        notes.append("REVIEW: no value was seen")
    elif column.nulls:
        notes.append(f"null in {column.nulls / column.rows:.1%} of the rows")
    if column.odd:
        notes.append("holds NaN or infinity")
    line = f"  {quoted(column.name)}: {{{', '.join(fields)}}}"
    return f"{line}  # {printable('; '.join(notes))}" if notes else line


def chosen_key(table: LearnedTable, asked: str | None) -> tuple[str, str]:
    """Return the key and a sentence about it; none where nothing was guessed."""
    if asked is not None:
        if not known(table, asked).unique:
            raise DeclarationError(
                f"{asked!r} cannot be the key: a key is text or a whole number, never null and never there twice",
                key="key",
            )
        return asked, ""
    found = [column.name for column in table.columns.values() if is_key_kind(column.read_as) and column.unique]
    if not found:
        raise DeclarationError(
            "no column tells all rows apart (text or whole numbers, never null, never twice); say which is the key "
            "with --key, or draft from files that do not overlap",
            key="key",
        )
    best = min(found, key=lambda name: (rank(name, KEY_WORDS), list(table.columns).index(name)))
    others = [name for name in found if name != best]
    return best, f"{best} is the key, as it is never null and never repeats" + (
        f"; so could be {', '.join(others[:5])}" if others else ""
    )


def chosen_time(table: LearnedTable, asked: str | None) -> tuple[str, str]:
    """Return the time and a sentence about it; none where nothing was guessed."""
    if asked is not None:
        if not is_time(known(table, asked).kind):
            raise DeclarationError(
                f"{asked!r} cannot be the time: it holds {word(known(table, asked).kind)}, neither dates nor times",
                key="time",
            )
        return asked, ""
    found = [column for column in table.columns.values() if is_time(column.kind) and not column.unsupported]
    if not found:
        raise DeclarationError("no column holds dates or times; say which does with --time", key="time")
    order = list(table.columns)
    best = min(
        found,
        key=lambda column: (
            # A moment, whose zone is known, before a clock, and a clock before a day.
            column.nulls > 0,
            pa.types.is_date(column.kind),
            not getattr(column.kind, "tz", None),
            rank(column.name, TIME_WORDS),
            order.index(column.name),
        ),
    )
    others = [column.name for column in found if column is not best]
    said = f"{best.name} is the time of a row"
    return best.name, said + (f"; so could be {', '.join(others[:5])}" if others else "")


def known(table: LearnedTable, name: str) -> ColumnFacts:
    """Return the facts of a column, or say which one may be meant."""
    if name not in table.columns:
        raise DeclarationError(f"there is no column {name!r}; {suggest_name(name, list(table.columns))}")
    return table.columns[name]


def rank(name: str, words: Sequence[str]) -> int:
    """Return the place of the last of a name's words in ``words``; their number if it is none of them."""
    last = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())[-1]
    return words.index(last) if last in words else len(words)


def is_time(kind: pa.DataType) -> bool:
    """Return whether a type is one of dates or times."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_key_kind(kind: pa.DataType) -> bool:
    """Return whether a type may tell rows apart."""
    return is_text(kind) or bool(pa.types.is_integer(kind))


def word(kind: pa.DataType) -> str:
    """Return what a contract calls a type."""
    if pa.types.is_decimal(kind):
        return f'"decimal({kind.precision}, {kind.scale})"'
    return "time" if pa.types.is_timestamp(kind) else WORDS[kind]


def name_of(files: Sequence[Path]) -> str:
    """Return a name for the data set: that of the file, or of its folder where files are named by dates."""
    stem = files[0].name.split(".")[0]
    dated = len(files) > 1 or re.fullmatch(r"[\d_T-]+", stem)
    slug = re.sub(r"[^a-z0-9_-]+", "_", (files[0].absolute().parent.name if dated else stem).lower()).strip("_-")
    return slug[:63] or "data"


def printable(text: str) -> str:
    """Return a text that can stand in a comment."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def quoted(text: str, *, always: bool = False) -> str:
    """Return a text as YAML: plain where it can be taken for nothing else, in double quotes otherwise.

    >>> quoted("flight_id"), quoted("no"), quoted('a "b"')
    ('flight_id', '"no"', '"a \\\\"b\\\\""')
    """
    if not always and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) and text.lower() not in ODD_WORDS:
        return text
    shown = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in shown)
