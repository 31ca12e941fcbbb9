"""The site that ``make site`` has built: every page is there, nothing comes from elsewhere, and the search finds."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.headless_chromium import chromium

HOUSE = Path(__file__).resolve().parents[2]
DOCS, SITE = HOUSE / "docs", HOUSE / "build" / "site"
LOADED = re.compile(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"|<link[^>]*\shref="([^"]+)"')
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the site on loopback, and return its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_page_is_on_the_site() -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert len(pages) > 100
    assert {page for page in pages if not (SITE / page).is_file()} == set()


def test_everything_that_a_page_loads_is_on_the_site() -> None:
    missing = [
        f"{page.relative_to(SITE)} loads {source}"
        for page in SITE.rglob("*.html")
        for pair in LOADED.findall(page.read_text())
        for source in pair
        if source
        and not source.startswith("data:")
        and not (page.parent / source.partition("?")[0]).resolve().is_file()
    ]
    assert [line for line in missing if not line.startswith("404.html")] == []


def test_a_reader_finds_a_page_by_its_words(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(f"{address}/index.html")
        page.get_by_placeholder("Search docs").fill("quarantine release")
        page.keyboard.press("Enter")
        results = page.locator("#mkdocs-search-results")
        results.get_by_role("link", name="Look at bad rows, and release them", exact=False).first.click()
        page.wait_for_url(f"{address}/how-to/quarantine-and-release.html*")
        assert [url for url in requested if not url.startswith((address, "data:"))] == []
        browser.close()
