"""Columns in the path of a file, as Hive and Spark write them: ``dt=2013-01-06/region=eu/part-0.parquet``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

from airflow_mlops.core.errors import PartitionRefusedError, SourceUnreadableError

NULL = "__HIVE_DEFAULT_PARTITION__"
"""The value of a folder for null."""
KEY = "data.source.path_columns"


def path_values(path: str, columns: Sequence[str], where: str) -> dict[str, str | None]:
    """Return the values of columns in a path, percent-decoded; None for null.

    >>> path_values("in/region=S%C3%BCd/shop=__HIVE_DEFAULT_PARTITION__/a.csv", ["region", "shop"], "a.csv")
    {'region': 'Süd', 'shop': None}

    Raises
    ------
    SourceUnreadableError
        If a column is not in the path, or its value is no UTF-8.
    """
    folders = [folder.split("=", 1) for folder in path.split("/")[:-1] if "=" in folder]
    values = {unquote(name): text for name, text in folders}
    missing = [name for name in columns if name not in values]
    if missing:
        raise SourceUnreadableError(
            f"{where} lies in no folder {missing[0]}=…, and {KEY} names {missing[0]!r}; move the file, or take the "
            "column out"
        )
    try:
        return {name: None if values[name] == NULL else unquote(values[name], errors="strict") for name in columns}
    except UnicodeDecodeError as error:
        raise SourceUnreadableError(f"{where} has a folder whose percent-encoded name is no UTF-8: {error}") from None


def require_declared_folders(base: str, folders: Sequence[str], columns: Sequence[str], where: str) -> None:
    """Raise SourceUnreadableError if files lie in folders below a base that are no declared columns.

    Parameters
    ----------
    base : str
        The folder, as it is declared.
    folders : sequence of str
        Paths of the folders with files, relative to the base.
    columns : sequence of str
        The declared columns.
    where : str
        Partition, for the error.

    Raises
    ------
    SourceUnreadableError
        Naming the folders, and what to declare.
    """
    new = _undeclared({name for folder in folders for name in folder.split("/")}, columns)
    if not new:
        return
    advice = (
        f"declare {_key_with(new, columns)}, and the values are columns"
        if any("=" in name for name in new)
        else "move their files up, or write data.source.uri with a * in the place of the folder"
    )
    raise SourceUnreadableError(f"{where}: {base} has files in folders that are not declared: {_list(new)}; {advice}")


def undeclared_values(folders: Collection[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return a warning if folders hold values of columns that are not declared, as ``region=eu`` does."""
    new = [name for name in _undeclared(folders, columns) if "=" in name]
    if not new:
        return ()
    return (
        f"the files lie in the folders {_list(new)}, whose values are no columns: declare {_key_with(new, columns)}, "
        "and let the contract ignore what is not wanted",
    )


def _undeclared(folders: Collection[str], columns: Sequence[str]) -> list[str]:
    return [name for name in sorted(folders) if "=" not in name or unquote(name.split("=", 1)[0]) not in columns]


def _key_with(folders: Sequence[str], columns: Sequence[str]) -> str:
    keys = sorted({unquote(name.split("=", 1)[0]) for name in folders if "=" in name})
    return f"{KEY}: [{', '.join([*columns, *keys])}]"


def _list(folders: Sequence[str]) -> str:
    return ", ".join(folders[:5]) + (f" and {len(folders) - 5} more" if len(folders) > 5 else "")


def add_path_fields(schema: pa.Schema, values: Mapping[str, str | None], where: str) -> pa.Schema:
    """Return the columns of a file and those of its path, as text.

    Raises
    ------
    PartitionRefusedError
        If a column is in both.
    """
    both = [name for name in values if name in schema.names]
    if both:
        raise PartitionRefusedError(
            f"{where}: column {both[0]!r} is in the file and in its path, and the two may differ; take it out of {KEY}"
        )
    return pa.schema([*schema, *(pa.field(name, pa.string()) for name in values)])


def add_path_columns(batch: pa.RecordBatch, schema: pa.Schema, values: Mapping[str, str | None]) -> pa.RecordBatch:
    """Return rows of text with the columns of a schema, in its order; those in the path have one value each."""
    if batch.schema.names == schema.names:
        return batch
    columns = [
        pa.repeat(pa.scalar(values[name], pa.string()), batch.num_rows)
        if name in values
        else batch.column(batch.schema.names.index(name))
        for name in schema.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
