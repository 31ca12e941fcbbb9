"""A browser in which a person walks the pages of the plugin, and what axe finds on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from tests.headless_chromium import ARGUMENTS, chromium
from tests.loop.airflow_pages import COOKIE, PREFIX, jwt_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextmanager
def started_browser() -> Iterator[Browser]:
    """Yield a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def visited(browser: Browser, address: str, role: str | None, path: str, *, scheme: Any = "light") -> Iterator[Page]:
    """Yield a page as somebody sees it who is signed in with a role, or is not signed in."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    if role is not None:
        context.add_cookies([{"name": COOKIE, "value": jwt_of(role), "url": address}])
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address + PREFIX + path)
    yield page
    context.close()
    # Nothing is asked of anybody else: no font, no script, no picture from elsewhere.
    assert [url for url in requested if not url.startswith((address, "data:"))] == []


def same_site(address: str) -> dict[str, str]:
    """Return the headers with which a browser sends a form of a page of the same site."""
    return {"Origin": address, "Sec-Fetch-Site": "same-origin"}


def serious_findings(page: Page) -> list[tuple[str, str, list[str]]]:
    """Return the serious findings of axe on a page: the rule, the impact, and the first places."""
    return [
        (violation["id"], violation["impact"], [node["html"][:120] for node in violation["nodes"][:3]])
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
