"""Draft a contract from learned columns, with a remark for every guess."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from airflow_mlops.core.data.drafting.choose_key import choose_key, name_rank
from airflow_mlops.core.data.drafting.column_facts import ColumnFacts, is_category
from airflow_mlops.core.data.drafting.learn_columns import LearnedTable, require_column
from airflow_mlops.core.data.drafting.partition_cut import LENGTHS, choose_every
from airflow_mlops.core.data.drafting.personal_columns import guess_privacy
from airflow_mlops.core.declaration.arrow_types import contract_type, is_number, is_time
from airflow_mlops.core.declaration.contract import COLUMN_NAME, RESERVED_NAMES, normal_name
from airflow_mlops.core.declaration.key_columns import key_columns
from airflow_mlops.core.errors import DeclarationError

TIME_WORDS = ("time", "timestamp", "at", "datetime", "date", "day", "on")
YAML_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True)
class ContractDraft:
    """A contract as YAML, its key and time, a sentence for each guess, and the columns that may be personal.

    ``source`` are the keys of ``data.source`` that the files need, and ``names`` the names in the contract by those
    that arrive.
    """

    text: str
    key: str
    time: str
    remarks: tuple[str, ...]
    personal: frozenset[str]
    source: dict[str, object]
    names: dict[str, str]


def draft_contract(
    table: LearnedTable,
    files: Sequence[Path],
    *,
    name: str | None = None,
    key: str | None = None,
    time: str | None = None,
) -> ContractDraft:
    """Return a contract that the files from which it was drafted meet.

    Parameters
    ----------
    table : LearnedTable
        The columns of the files.
    files : sequence of Path
        The files, for the comment in the draft and for its default name.
    name, key, time : str, optional
        Name of the data set, in small letters, and the columns with these roles; guessed if not given. A key of
        several columns has commas between them.

    Raises
    ------
    DeclarationError
        If a stated key is null or repeats, a stated time holds no times, or neither can be guessed.
    """
    name = name or data_set_name(files)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise DeclarationError(f"{name!r} is no name: small letters, digits, _ and -, at most 63; say one with --name")
    (key, key_remark), (time, time_remark) = choose_roles(table, files, key, time)
    personal = personal_columns(table)
    names = contract_names(table.columns)
    remarks = [
        *(remark for remark in (key_remark, time_remark) if remark),
        *(f"{column}: {reason}, so it is tagged {tag}" for column, (tag, reason) in personal.items()),
        *table_remarks(table, names, suggest_every(table, time) if len(files) == 1 else []),
    ]
    head = [
        *header_lines(table, files, remarks),
        f"contract: {quote_yaml(name)}",
        f"key: {key_yaml([names[part] for part in key_columns(key)])}",
        f"time: {quote_yaml(names[time])}",
    ]
    lines = [*head, *column_lines(table, names, personal, roles={*key_columns(key), time})]
    return ContractDraft("\n".join(lines) + "\n", key, time, tuple(remarks), frozenset(personal), table.source, names)


def personal_columns(table: LearnedTable) -> dict[str, tuple[str, str]]:
    """Return the columns that may be about people: by name, the tag of each and the reason for it."""
    # A date looks like the number of a telephone.
    guesses = {
        column.name: guess_privacy(column.name, [] if column.time_formats else column.examples)
        for column in table.columns.values()
    }
    return {name: guess for name, guess in guesses.items() if guess is not None}


def table_remarks(table: LearnedTable, names: dict[str, str], schedule: list[str]) -> list[str]:
    """Return a remark on every guess about the columns and the source of a table; ``schedule`` stands among them."""
    columns = table.columns.values()
    unsupported = {column.name: column.unsupported for column in columns if column.unsupported}
    remarks = [f"{name}: its type {kind} cannot be kept, so it is ignored" for name, kind in unsupported.items()]
    remarks += schedule
    remarks += [f"{name} is the column {arriving!r}" for arriving, name in names.items() if name != arriving]
    if table.broken:
        remarks.append(f"{table.broken:,} rows could not be split into columns and were left out")
    remarks += [f"NOT DECIDED: {words}" for words in table.undecided]
    if table.source:
        needed = ", ".join(f"{key}: {json.dumps(value)}" for key, value in table.source.items())
        remarks.append(f"data.source needs {needed}")
    return remarks


def column_lines(
    table: LearnedTable, names: dict[str, str], personal: dict[str, tuple[str, str]], *, roles: set[str]
) -> list[str]:
    """Return the lines of a contract about its columns; ``roles`` are those that are its key or its time."""
    columns = list(table.columns.values())
    # The names are patterns: brackets around a star make it stand for itself.
    ignored = [re.sub(r"([*?\[])", r"[\1]", column.name) for column in columns if column.unsupported]
    patterns = ", ".join(quote_yaml(pattern, always=True) for pattern in ignored)
    return [
        *([f"ignore: [{patterns}]"] if ignored else []),
        "columns:",
        *(
            column_line(
                column, table, personal.get(column.name), name=names[column.name], has_role=column.name in roles
            )
            for column in columns
            if not column.unsupported
        ),
    ]


def choose_roles(
    table: LearnedTable, files: Sequence[Path], key: str | None, time: str | None
) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the key and the time, each with a remark if it was guessed.

    Raises
    ------
    DeclarationError
        If one of them cannot be chosen, or both: it names all that is wrong, and the columns.
    """
    errors: list[str] = []
    chosen: list[tuple[str, str]] = []
    choices = {"key": partial(choose_key, table, files, key), "time": partial(choose_time, table, time)}
    for role, choose in choices.items():
        try:
            chosen.append(choose())
        except DeclarationError as error:
            errors.append(f"{role}: {error.message}")
    if errors:
        columns = ", ".join(f"{column.name} ({yaml_type(column.kind)})" for column in list(table.columns.values())[:50])
        raise DeclarationError(f"{'; '.join(errors)}; the columns are {columns}")
    return chosen[0], chosen[1]


def header_lines(table: LearnedTable, files: Sequence[Path], remarks: Sequence[str]) -> list[str]:
    """Return the comment at the top of a draft: its files, and a line for each remark."""
    rows = f"{table.rows:,} rows of {files[0].name}" + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
    return [
        f"# A draft from {rows}. Review every line before it is used: it says what was,",
        "# not what should be. The label has to stay nullable where it arrives later than its row.",
        *(f"# Guessed: {replace_unprintable(remark)}." for remark in remarks),
        *category_lines(table),
    ]


def category_lines(table: LearnedTable) -> list[str]:
    """Return a comment that names the texts with few values, which can be categories; none if there are none."""
    names = [
        column.name
        for column in table.columns.values()
        if pa.types.is_string(column.kind) and not column.unsupported and is_category(column)
    ]
    if not names:
        return []
    listed = replace_unprintable(", ".join(names[:10])) + (", …" if len(names) > 10 else "")
    return [f"# Text with few values, which a model reads as such if it is type: category: {listed}."]


def contract_names(columns: Iterable[str]) -> dict[str, str]:
    """Return names for a contract by those that arrive: the same, unless a contract or a table cannot have them."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for arriving in columns:
        name = normal_name(arriving)
        if not COLUMN_NAME.match(name) or name in RESERVED_NAMES:
            name = re.sub(r"\W+", "_", name).strip("_").lower() or "unnamed"
            name = f"{name}_column" if name in RESERVED_NAMES else name
        number, base = 2, name
        while name.casefold() in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name.casefold())
        names[arriving] = name
    return names


def column_line(
    column: ColumnFacts, table: LearnedTable, guess: tuple[str, str] | None, *, name: str, has_role: bool
) -> str:
    """Return the YAML line of one column; one with a role (key, time) is no feature anyway."""
    fields = column_fields(column, table)
    if name != column.name:
        fields.append(f"from: {quote_yaml(column.name, always=True)}")
    if guess:
        fields.append(f"privacy: {guess[0]}")
        if not has_role:
            fields.append("feature: false")
    notes = column_notes(column, guess, has_role=has_role)
    line = f"  {quote_yaml(name)}: {{{', '.join(fields)}}}"
    return f"{line}  # {replace_unprintable('; '.join(notes))}" if notes else line


def column_fields(column: ColumnFacts, table: LearnedTable) -> list[str]:
    """Return the fields of a column that its values imply."""
    fields = [f"type: {yaml_type(column.kind)}"]
    if pa.types.is_timestamp(column.kind) and not column.kind.tz:
        fields.append("zone: none")
    if column.time_formats and is_time(column.kind):
        fields.append(f"format: {json.dumps(column.time_formats[0])}")
    if (unit := unit_in_name(column.name)) is not None and is_number(column.kind):
        fields.append(f"unit: {quote_yaml(unit)}")
    if not column.nulls and column.rows:
        fields.append("nullable: false")
    if column.rows < table.rows:
        fields.append("optional: true")
    if column.odd:
        fields.append("finite: false")
    return fields


def column_notes(column: ColumnFacts, guess: tuple[str, str] | None, *, has_role: bool) -> list[str]:
    """Return the remarks in the comment of a column."""
    notes = []
    if guess:
        notes.append(f"REVIEW: {guess[1]}" if has_role else f"REVIEW: {guess[1]}; mask: true hides it")
    if column.null_texts:
        texts = ", ".join(map(repr, column.null_texts))
        notes.append(f"REVIEW: {yaml_type(column.value_type)} if {texts} mean null: then add them to nulls")
    notes += value_notes(column)
    if column.nulls == column.rows:
        notes.append("REVIEW: no value was seen")
    elif column.nulls:
        notes.append(f"null in {column.nulls / column.rows:.1%} of the rows")
    if column.odd:
        notes.append("holds NaN or infinity")
    return notes


def suggest_every(table: LearnedTable, time: str) -> list[str]:
    """Return a remark with the schedule that cuts the rows of one file into partitions of a fitting size."""
    column = table.columns[time]
    if column.first is None or column.last is None:
        return []
    every = choose_every(column, table.rows)
    days = max((column.last - column.first).total_seconds() / 86_400, 1.0)
    rows = round(table.rows * min(LENGTHS[every], days) / days)
    return [
        f"data.every: {every!r} makes partitions of about {rows:,} rows; "
        f"{time} goes from {column.first:%Y-%m-%d} to {column.last:%Y-%m-%d}"
    ]


def value_notes(column: ColumnFacts) -> list[str]:
    """Return the remarks about values that allow two readings, or that are numbers in part."""
    notes = []
    if len(column.time_formats) > 1 and is_time(column.kind):
        others = ", ".join(column.time_formats[1:])
        notes.append(f"REVIEW: {column.time_formats[0]}, and every value could be {others} as well")
    if pa.types.is_string(column.kind) and column.counted and 2 * column.numbers > column.counted:
        texts = ", ".join(map(repr, column.no_numbers))
        reason = f"others are not, as {texts}" if texts else "with leading zeros, or too long for one: a name"
        notes.append(f"REVIEW: {column.numbers / column.counted:.0%} of the values are numbers; {reason}")
    if column.missing is not None:
        notes.append(
            f"REVIEW: {column.missing:g} stands far from all other values, and more than once; if it means missing, "
            "add it to nulls"
        )
    return notes


UNITS = re.compile(
    r"(?i)(k|c|m)?m|mi|ft|m?s|min|h|k?g|mg|t|m?l|eur|usd|gbp|chf|pct|percent|[cfkwva]|kwh?|hz|h?pa|bar|mph|kmh"
)
"""Words at the end of a name that are taken for a unit."""


def unit_in_name(name: str) -> str | None:
    """Return the unit that a name ends with; None without one.

    >>> unit_in_name("weight [kg]"), unit_in_name("distance_km"), unit_in_name("items")
    ('kg', 'km', None)
    """
    bracketed = re.search(r"[\[(]([^\])]{1,12})[\])]\s*$", name)
    if bracketed:
        return bracketed[1].strip() or None
    last = re.split(r"[_ ]", name)[-1]
    return last if "_" in name and UNITS.fullmatch(last) else None


def choose_time(table: LearnedTable, name: str | None) -> tuple[str, str]:
    """Return the time column, and a remark if it was guessed.

    Raises
    ------
    DeclarationError
        If the stated column holds no times, or no column does.
    """
    if name is not None:
        kind = require_column(table, name).kind
        if not is_time(kind):
            raise DeclarationError(
                f"{name!r} cannot be the time: it holds {yaml_type(kind)}, neither dates nor times", key="time"
            )
        return name, ""
    candidates = [column for column in table.columns.values() if is_time(column.kind) and not column.unsupported]
    if not candidates:
        raise DeclarationError("no column holds dates or times; say which does with --time", key="time")
    order = list(table.columns)
    best = min(
        candidates,
        key=lambda column: (
            # A time with a zone before one without, and a time before a date.
            column.nulls > 0,
            pa.types.is_date(column.kind),
            not getattr(column.kind, "tz", None),
            name_rank(column.name, TIME_WORDS),
            order.index(column.name),
        ),
    )
    others = [column.name for column in candidates if column is not best]
    remark = f"{best.name} is the time of a row"
    return best.name, remark + (f"; so could be {', '.join(others[:5])}" if others else "")


def key_yaml(names: Sequence[str]) -> str:
    """Return the key of a contract as YAML: a name, or a list of several."""
    written = [quote_yaml(name) for name in names]
    return written[0] if len(written) == 1 else f"[{', '.join(written)}]"


def yaml_type(kind: pa.DataType) -> str:
    """Return the type of a column as YAML; the comma of a decimal needs quotes within a flow mapping."""
    return f'"{contract_type(kind)}"' if pa.types.is_decimal(kind) else contract_type(kind)


def data_set_name(files: Sequence[Path]) -> str:
    """Return a name for the data set: that of the file, or of its folder if files are named by dates."""
    stem = files[0].name.split(".")[0]
    is_dated = len(files) > 1 or re.fullmatch(r"[\d_T-]+", stem)
    slug = re.sub(r"[^a-z0-9_-]+", "_", (files[0].absolute().parent.name if is_dated else stem).lower()).strip("_-")
    return slug[:63] or "data"


def replace_unprintable(text: str) -> str:
    """Return a text for a comment, with ``?`` for each unprintable letter."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def quote_yaml(text: str, *, always: bool = False) -> str:
    """Return a text as YAML: plain if no reader can take it for another value, else in double quotes.

    >>> quote_yaml("flight_id"), quote_yaml("no"), quote_yaml('a "b"')
    ('flight_id', '"no"', '"a \\\\"b\\\\""')
    """
    if not always and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) and text.lower() not in YAML_WORDS:
        return text
    literal = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in literal)
