"""Read the pages of an HTTP service: records in JSON, or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from airflow_mlops.core.ports.partitions import BrokenRow
from airflow_mlops.core.sources.csv_dialect import CsvDialect
from airflow_mlops.core.sources.csv_rows import CsvRows
from airflow_mlops.core.sources.csv_source import require_same_columns
from airflow_mlops.core.sources.http_pages import Page, PageReader
from airflow_mlops.core.sources.json_rows import JsonRows, read_json, value_at
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.utf8_stream import DAMAGES, Utf8Stream, open_decompressed


class JsonAnswers:
    """Pages of records in JSON; ``count`` and ``link`` belong to the current page."""

    def __init__(
        self,
        reader: PageReader,
        *,
        meter: Meter,
        where: str,
        broken: list[BrokenRow],
        records: str | None,
        link: str | None,
        **contract: Any,
    ) -> None:
        self._reader, self._meter, self._where, self._broken = reader, meter, where, broken
        self._path, self._link_path, self._contract = records, link, contract
        self._rows: JsonRows | None = None
        self._records: list[Any] = []
        self.count, self.link = 0, ""

    @property
    def schema(self) -> pa.Schema:
        """The columns, known from the first page on."""
        assert self._rows is not None
        return self._rows.schema

    def load(self, page: Page) -> None:
        """Read a page and make it the current one.

        Raises
        ------
        SourceUnreadableError
            If it is not JSON, or has no list of records at the declared path.
        """
        assert page.content is not None
        try:
            answer = read_json(page.content.read())
        except ValueError as error:
            raise self._reader.unreadable(page.path, f"it is not JSON: {error}") from None
        records = value_at(answer, self._path)
        if not isinstance(records, list):
            keys = f"; it has the keys {', '.join(map(repr, list(answer)[:10]))}" if isinstance(answer, dict) else ""
            place = f"at {self._path!r}" if self._path else "as a whole"
            raise self._reader.unreadable(page.path, f"{place} it is not a list of records{keys}")
        link = value_at(answer, self._link_path) if self._link_path else None
        if not isinstance(link, str | None):
            raise self._reader.unreadable(page.path, f"at {self._link_path!r} it has no address but {str(link)[:80]}")
        self._records, self.count, self.link = records, len(records), link or ""
        if self._rows is None:
            self._rows = JsonRows(records, where=self._where, broken=self._broken, **self._contract)

    def batches(self, page: Page) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the current page."""
        assert self._rows is not None
        self._meter.add_rows(len(self._records), len(self.schema), page.path)
        yield from self._rows.batches(self._records, page.path)
        self._records = []

    def end(self) -> None:
        """Check the columns after the last page."""
        assert self._rows is not None
        self._rows.end()


class CsvAnswers:
    """Pages of CSV, each with its header; ``count`` belongs to the current page."""

    link = ""

    def __init__(
        self, reader: PageReader, *, meter: Meter, where: str, partition: str, broken: list[BrokenRow]
    ) -> None:
        self._reader, self._meter, self._where, self._partition = reader, meter, where, partition
        self._broken = broken
        self._rows: CsvRows | None = None
        self._first_page = ""
        self.schema: pa.Schema = pa.schema([])
        self.count = 0

    def load(self, page: Page) -> None:
        """Read the header of a page and make it the current one; only the first page must have a header."""
        if self._first_page and not page.size:
            self._rows = None
            return
        text = Utf8Stream(
            open_decompressed(pa.PythonFile(page.content, mode="r"), page.url.path),
            name=page.path,
            meter=self._meter,
            translate_error=lambda error: self._reader.unreadable(page.path, str(error)),
        )
        try:
            self._rows = CsvRows(
                text,
                name=page.path,
                partition=self._partition,
                dialect=CsvDialect(),
                meter=self._meter,
                broken=self._broken,
            )
        except DAMAGES as error:
            raise self._reader.unreadable(page.path, str(error)) from error
        if not self._first_page:
            self._first_page = page.path
            self.schema = pa.schema([pa.field(name, pa.string()) for name in self._rows.names])
        require_same_columns(self._rows.names, self.schema.names, f"{self._where}: {page.path}", self._first_page)

    def batches(self, page: Page) -> Iterator[pa.RecordBatch]:  # noqa: ARG002
        """Yield the rows of the current page."""
        self.count = 0
        if self._rows is None:
            return
        before = len(self._broken)
        for batch in self._rows.batches():
            self.count += batch.num_rows
            yield batch if self._rows.names == self.schema.names else batch.select(self.schema.names)
        self.count += len(self._broken) - before

    def end(self) -> None:
        """Do nothing: the columns are checked page by page."""
