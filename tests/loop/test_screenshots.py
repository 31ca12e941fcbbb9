"""The pictures of docs/images: pages as a browser draws them, of loops that have lived through their history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from airflow_mlops.core.report.kept_reports import keep_report
from airflow_mlops.testing.metadata import forget_everything, session_scope
from airflow_mlops.testing.scheduler import InProcessScheduler
from airflow_mlops.ui.airflow_facts import loop_facts
from tests.headless_chromium import ARGUMENTS, chromium
from tests.loop.airflow_pages import COOKIE, PREFIX, airflow_server, jwt_of
from tests.loop.pages_to_picture import LARGEST, PICTURES, SCREENSHOTS, WIDTH, Picture
from tests.loop.pictured_loops import PARCELS, WEEKS, make_pictured_loops

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

# Airflow's own UI asks Airflow's API for a field that Airflow has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated$:DeprecationWarning")

ALARMED = WEEKS[11]
"""A week of ``parcel_hours`` whose distances and errors alarmed."""
CUT_TEXTS = """
() => [...document.querySelectorAll("svg text")].filter(text => {
    const [inner, outer] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
    return inner.left < outer.left - 1 || inner.right > outer.right + 1
        || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
}).map(text => text.textContent)
"""
"""Return the texts that reach beyond the edge of their chart, and so are cut."""
OVERLAPPING_TEXTS = """
() => [...document.querySelectorAll("svg")].flatMap(svg => {
    const texts = [...svg.querySelectorAll("text:not([transform])")].map(text => [text.textContent,
        text.getBoundingClientRect()]);
    return texts.flatMap(([name, a], place) => texts.slice(place + 1).filter(([, b]) =>
        a.left + 1 < b.right && b.left + 1 < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom
    ).map(([other]) => name + " / " + other));
})
"""
"""Return the pairs of texts of a chart that lie on each other."""


@dataclass
class Airflow:
    """The server of the pages, a browser, and what stands for the names in the paths of pictures."""

    address: str
    browser: Browser
    names: dict[str, str]

    @contextmanager
    def visit(self, picture: Picture) -> Iterator[tuple[Page, Frame]]:
        """Yield the page of a picture as an administrator sees it, and the document of the plugin."""
        context = self.browser.new_context(
            viewport={"width": WIDTH, "height": picture.height}, color_scheme=picture.scheme
        )
        context.add_cookies([{"name": COOKIE, "value": jwt_of("ADMIN"), "url": self.address}])
        page = context.new_page()
        page.goto(self.address + picture.path.format(**self.names), wait_until="networkidle")
        document = page.main_frame
        if picture.frame:
            framed = page.wait_for_selector("iframe").content_frame()
            assert framed is not None
            document = framed
            document.wait_for_selector("h1")
            page.wait_for_load_state("networkidle")
        if picture.section:
            document.locator(f"#{picture.section}").evaluate("heading => heading.scrollIntoView()")
        yield page, document
        context.close()


@pytest.fixture(scope="module")
def airflow(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """An Airflow with the five loops.

    The newest week of ``parcel_hours`` came by its Dags, and a version of ``tram_delay`` waits for a person.
    """
    dags, loops = make_pictured_loops(tmp_path_factory.mktemp("pictured"))
    parcels, trams = loops["parcel_hours"], loops["tram_delay"]
    keep_report(parcels.workspace, ALARMED, "alarm: drift, performance")
    forget_everything()
    with InProcessScheduler(dags) as scheduler, airflow_server() as address, sync_playwright() as playwright:
        parcels.put(WEEKS[20], PARCELS.rows(WEEKS[20], shift=2.0, slope=2.56))
        parcels.ingest(scheduler, WEEKS[20])
        scheduler.trigger(trams.dag("rollout"), partition_key=WEEKS[4])
        scheduler.run_until_idle()
        assert scheduler.failures() == []
        with session_scope() as session:
            (approval,) = loop_facts(session, [trams.model])[trams.model].approvals
        question = f"{PREFIX}/models/{trams.model}/approvals/{approval.question}"
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield Airflow(address, browser, {"approval": question, "week": quote(ALARMED)})
        browser.close()
    forget_everything()


def draw(page: Page, picture: Picture) -> Path:
    """Write the picture, as small as PNG makes it, and return its file."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    file = SCREENSHOTS / f"{picture.name}.png"
    page.screenshot(path=file)
    with Image.open(file) as drawn:
        drawn.convert("RGB").save(file, optimize=True)
    return file


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_shows_its_page_with_no_text_cut_or_covered(airflow: Airflow, picture: Picture) -> None:
    with airflow.visit(picture) as (page, document):
        for text in picture.shows:
            box = document.get_by_text(text).locator("visible=true").first.bounding_box()
            assert box is not None, text
            assert 0 <= box["y"] <= picture.height - box["height"], f"{text}: {box}"
            assert 0 <= box["x"] <= WIDTH - box["width"], f"{text}: {box}"
        assert document.evaluate(CUT_TEXTS) == []
        assert document.evaluate(OVERLAPPING_TEXTS) == []
        file = draw(page, picture)
    with Image.open(file) as drawn:
        assert drawn.size == (WIDTH, picture.height)
    assert file.stat().st_size < LARGEST


def test_a_text_beyond_its_chart_and_one_on_another_are_found(airflow: Airflow) -> None:
    page = airflow.browser.new_page()
    page.set_content(
        '<svg width="200" height="60"><text x="180" y="20">far too long</text><text x="0" y="20">one</text>'
        '<text x="5" y="22">two</text></svg>'
    )
    assert page.evaluate(CUT_TEXTS) == ["far too long"]
    assert page.evaluate(OVERLAPPING_TEXTS) == ["one / two"]
    page.close()
