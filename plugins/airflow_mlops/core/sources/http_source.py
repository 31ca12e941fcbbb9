"""A source of rows from an HTTP service: JSON records or CSV, on one or many pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Literal
from urllib.parse import quote

import httpx
import pyarrow as pa

from airflow_mlops.core.declaration.data import Limits, Pages
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.declaration.path_template import fill_template
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.connections import HttpAddress
from airflow_mlops.core.ports.partitions import Arrival, BrokenRow
from airflow_mlops.core.sources.answer_forms import CsvAnswers, JsonAnswers
from airflow_mlops.core.sources.http_pages import Page, PageReader, path_of
from airflow_mlops.core.sources.size_limits import Meter

PAGE_BYTES = 64 << 20
"""Bytes of the largest page of JSON, which has to be held as a whole."""
MAX_PAGES = 100_000
FROM_HEADER = "header:Link"
"""Value of ``pages.next`` for services that put the address of the next page into a header."""


class HttpAnswers:
    """The rows of the answers of an HTTP service.

    Parameters
    ----------
    address : HttpAddress
        Address of the service.
    path : str
        Path and query below it, with ``{partition}`` or another placeholder.
    name : str
        Name of the service in errors: the id of its connection.
    form : str
        ``json`` or ``csv``.
    records : str, optional
        Dotted path of the records in an answer.
    pages : Pages, optional
        How to find the next page.
    attempts, timeout : int
        Tries of a page, and seconds that it may take.
    columns, required, ignored : optional
        Rules of the contract for the keys of records; see :class:`airflow_mlops.core.sources.json_rows.JsonRows`.
    limits : Limits
        How much a partition may hold.
    schedule : PartitionSchedule, optional
        The ticks of the partitions; weekly in UTC by default.
    sleep : callable
        Waits between tries.
    """

    def __init__(
        self,
        address: HttpAddress,
        path: str,
        *,
        name: str,
        form: Literal["json", "csv"] = "json",
        records: str | None = None,
        pages: Pages | None = None,
        attempts: int = 5,
        timeout: float = 60,
        columns: Sequence[str] = (),
        required: frozenset[str] = frozenset(),
        ignored: tuple[str, ...] = (),
        limits: Limits | None = None,
        schedule: PartitionSchedule | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if form == "csv" and pages and pages.next not in (None, FROM_HEADER):
            raise DeclarationError(
                f"a CSV answer has no place for {pages.next!r}; take {FROM_HEADER}", key="data.source"
            )
        self._address, self._path, self._name, self._form = address, path, name, form
        self._records, self._pages = records, pages
        self._attempts, self._timeout, self._sleep = attempts, timeout, sleep
        self._contract: dict[str, Any] = {"columns": columns, "required": required, "ignored": ignored}
        self._limits, self._schedule = limits or Limits(), schedule or PartitionSchedule()

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        where = f"partition {partition}: {self._name}"
        reader = PageReader(
            self._address,
            name=where,
            attempts=self._attempts,
            timeout=self._timeout,
            sleep=self._sleep,
            meter=Meter(self._limits, partition),
            max_bytes=PAGE_BYTES if self._form == "json" else self._limits.bytes,
        )
        with reader:
            base = reader.url_below(fill_template(self._path, partition, self._schedule, quote=_quote_value))
            if self._is_unchanged(reader, self._url_of_page(base, 0), known):
                yield Arrival(pa.schema([]), iter(()), typed=False, origin=dict(known or {}), unchanged=True)
                return
            first = reader.get(self._url_of_page(base, 0))
            if first is None:
                raise reader.missing(path_of(self._url_of_page(base, 0)))
            broken: list[BrokenRow] = []
            form = self._answer_form(reader, Meter(self._limits, partition), partition, broken)
            form.load(first)
            origin: dict[str, Any] = {"pages": [first.origin()]}
            with closing(self._batches(reader, form, first, base, origin["pages"])) as batches:
                yield Arrival(form.schema, batches, typed=False, origin=origin, broken=broken)

    def _answer_form(
        self, reader: PageReader, meter: Meter, partition: str, broken: list[BrokenRow]
    ) -> JsonAnswers | CsvAnswers:
        where = f"partition {partition}: {self._name}"
        if self._form == "csv":
            return CsvAnswers(reader, meter=meter, where=where, partition=partition, broken=broken)
        link = self._pages.next if self._pages and self._pages.next != FROM_HEADER else None
        return JsonAnswers(
            reader, meter=meter, where=where, broken=broken, records=self._records, link=link, **self._contract
        )

    def _is_unchanged(self, reader: PageReader, first: httpx.URL, known: Mapping[str, Any] | None) -> bool:
        """Return whether the service says that every page of a known origin is unchanged."""
        pages = (known or {}).get("pages", [])
        if not pages or pages[0]["url"] != path_of(first) or not all("etag" in page for page in pages):
            return False
        for page in pages:
            current = reader.get(reader.url_of(page["url"]), tag=page["etag"])
            if current is None or current.content is not None:
                return False
        return True

    def _batches(
        self, reader: PageReader, form: JsonAnswers | CsvAnswers, page: Page, base: httpx.URL, origin: list[Any]
    ) -> Generator[pa.RecordBatch]:
        """Yield the rows of all pages, adding each page to ``origin``."""
        visited = {page.path}
        for index in range(1, MAX_PAGES):
            yield from form.batches(page)
            url = self._next_url(reader, form, page, base, index)
            if url is None:
                form.end()
                return
            if path_of(url) in visited:
                raise reader.unreadable(path_of(url), "the links from page to page lead in a circle")
            visited.add(path_of(url))
            following = reader.get(url)
            if following is None and not self._page_parameter:
                raise reader.unreadable(path_of(url), "the page before links to it, and it is not there")
            if following is None:  # behind the last page
                origin.append({"url": path_of(url)})
                form.end()
                return
            origin.append(following.origin())
            if self._page_parameter and following.digest == page.digest:
                reason = f"it is the same as the page before; does the service know {self._page_parameter!r}?"
                raise reader.unreadable(following.path, reason)
            page = following
            form.load(page)
        raise reader.unreadable(page.path, f"there are more than {MAX_PAGES:,} pages")

    @property
    def _page_parameter(self) -> str | None:
        """The query parameter with the number of the page, if pages are numbered."""
        return self._pages.number if self._pages else None

    def _url_of_page(self, url: httpx.URL, index: int) -> httpx.URL:
        if self._pages is None or self._pages.number is None:
            return url
        return url.copy_set_param(self._pages.number, self._pages.first + index)

    def _next_url(
        self, reader: PageReader, form: JsonAnswers | CsvAnswers, page: Page, base: httpx.URL, index: int
    ) -> httpx.URL | None:
        """Return the URL of the next page, None after the last page."""
        if self._pages is None:
            return None
        if self._page_parameter:
            return self._url_of_page(base, index) if form.count else None
        link = page.link if self._pages.next == FROM_HEADER else form.link
        return reader.resolve_link(link, page) if link else None


def _quote_value(text: str) -> str:
    """Return a value as it stands in an address: the ``+`` of an offset would be a space."""
    return quote(text, safe="/:")
