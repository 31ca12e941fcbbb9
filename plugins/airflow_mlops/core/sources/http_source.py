"""A source of rows behind an HTTP service: JSON records or CSV, on one page or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Literal

import httpx
import pyarrow as pa

from airflow_mlops.core.declaration.data import Limits, Pages
from airflow_mlops.core.declaration.partition_key import fill_template
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.connections import HttpAddress
from airflow_mlops.core.ports.partitions import Arrival, BrokenRow
from airflow_mlops.core.sources.answer_forms import CsvAnswers, JsonAnswers
from airflow_mlops.core.sources.http_pages import Page, PageReader, place_of
from airflow_mlops.core.sources.size_limits import Meter

PAGE_BYTES = 64 << 20
"""Bytes of the largest page of JSON, which has to be held as a whole."""
MAX_PAGES = 100_000
FROM_HEADER = "header:Link"
"""What ``pages.next`` says where the address of the next page stands in a header."""


class HttpAnswers:
    """Rows that an HTTP service answers with.

    Parameters
    ----------
    address : HttpAddress
        Of the service.
    path : str
        Path and query below it, with ``{partition}`` or another placeholder.
    name : str
        What a person calls the service: the id of its connection.
    form : str
        ``json`` or ``csv``.
    records : str, optional
        Dotted path of the records in an answer.
    pages : Pages, optional
        How the answer goes on.
    attempts, timeout : int
        Tries of a page, and seconds that it may take.
    columns, required, ignored : optional
        What the contract says of the keys of records; see :class:`airflow_mlops.core.sources.json_rows.JsonRows`.
    limits : Limits
        How much a partition may hold.
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if form == "csv" and pages and pages.next not in (None, FROM_HEADER):
            raise DeclarationError(
                f"a CSV answer has no place for {pages.next!r}; take {FROM_HEADER}", key="data.source"
            )
        self._address, self._path, self._name, self._form = address, path, name, form
        self._records, self._pages = records, pages
        self._attempts, self._timeout, self._sleep = attempts, timeout, sleep
        self._known: dict[str, Any] = {"columns": columns, "required": required, "ignored": ignored}
        self._limits = limits or Limits()

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        where = f"partition {partition}: {self._name}"
        reader = PageReader(
            self._address, name=where, attempts=self._attempts, timeout=self._timeout, sleep=self._sleep,
            meter=Meter(self._limits, partition),
            largest=PAGE_BYTES if self._form == "json" else self._limits.bytes,
        )  # fmt: skip
        with reader:
            base = reader.first(fill_template(self._path, partition))
            if self._unchanged(reader, self._numbered(base, 0), known):
                yield Arrival(pa.schema([]), iter(()), typed=False, origin=dict(known or {}), unchanged=True)
                return
            first = reader.get(self._numbered(base, 0))
            if first is None:
                raise reader.missing(place_of(self._numbered(base, 0)))
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
            reader, meter=meter, where=where, broken=broken, records=self._records, link=link, **self._known
        )

    def _unchanged(self, reader: PageReader, first: httpx.URL, known: Mapping[str, Any] | None) -> bool:
        """Whether the service says of every page of a known origin that it is the same."""
        before = (known or {}).get("pages", [])
        if not before or before[0]["url"] != place_of(first) or not all("etag" in page for page in before):
            return False
        for page in before:
            found = reader.get(reader.at(page["url"]), tag=page["etag"])
            if found is None or found.content is not None:
                return False
        return True

    def _batches(
        self, reader: PageReader, form: JsonAnswers | CsvAnswers, page: Page, base: httpx.URL, origin: list[Any]
    ) -> Generator[pa.RecordBatch]:
        """Yield the rows of page after page, noting each in ``origin``."""
        seen = {page.place}
        for index in range(1, MAX_PAGES):
            yield from form.batches(page)
            url = self._following(reader, form, page, base, index)
            if url is None:
                form.end()
                return
            if place_of(url) in seen:
                raise reader.unreadable(place_of(url), "the links from page to page lead in a circle")
            seen.add(place_of(url))
            following = reader.get(url)
            if following is None and not self._counted:
                raise reader.unreadable(place_of(url), "the page before links to it, and it is not there")
            if following is None:  # beyond the last page
                origin.append({"url": place_of(url)})
                form.end()
                return
            origin.append(following.origin())
            if self._counted and following.digest == page.digest:
                said = f"it is the same as the page before; does the service know {self._counted!r}?"
                raise reader.unreadable(following.place, said)
            page = following
            form.load(page)
        raise reader.unreadable(page.place, f"there are more than {MAX_PAGES:,} pages")

    @property
    def _counted(self) -> str | None:
        """Parameter of the query with the number of the page, if pages are told apart by it."""
        return self._pages.number if self._pages else None

    def _numbered(self, url: httpx.URL, index: int) -> httpx.URL:
        if self._pages is None or self._pages.number is None:
            return url
        return url.copy_set_param(self._pages.number, self._pages.first + index)

    def _following(
        self, reader: PageReader, form: JsonAnswers | CsvAnswers, page: Page, base: httpx.URL, index: int
    ) -> httpx.URL | None:
        """Return where the next page is, None after the last one."""
        if self._pages is None:
            return None
        if self._counted:
            return self._numbered(base, index) if form.count else None
        link = page.link if self._pages.next == FROM_HEADER else form.link
        return reader.following(link, page) if link else None
