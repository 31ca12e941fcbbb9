"""Take texts such as NA for null, where they alone keep a column from being numbers, dates or truth values."""

from __future__ import annotations

from dataclasses import replace

from airflow_mlops.core.data.drafting.learn_columns import LearnedTable


def with_null_texts(table: LearnedTable) -> LearnedTable:
    """Return the columns of CSV files in which such texts are null, with the key of the source that says so.

    A source has one list for all columns, so a text counts as null in each of them.
    """
    columns = {column.name: column.null_texts for column in table.columns.values() if column.null_texts}
    texts = sorted({text for of_column in columns.values() for text in of_column})
    if not texts:
        return table
    for column in table.columns.values():
        column.read_as_null(texts)
    written = ", ".join(map(repr, texts))
    remark = f"{written} is read as null, in every column, as {', '.join(columns)} would be text otherwise"
    return replace(table, source={**table.source, "nulls": ["", *texts]}, undecided=(*table.undecided, remark))
