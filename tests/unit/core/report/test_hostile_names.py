"""No name of a column or value makes a page run code, as a parser and a real browser confirm."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.core.governance.model_card import write_model_card
from airflow_mlops.core.report.page_html import as_html
from airflow_mlops.core.report.watch_report import watch_report
from airflow_mlops.core.workspace import Workspace
from tests.headless_chromium import Document, dom_of
from tests.unit.core.report.watched_week import HOSTILE, hostile_week, judged_week, moved_weeks
from tests.unit.core.toy_loop import week


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A judged week with hostile names of columns and hostile values of a sliced column."""
    return hostile_week(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def own_page(hostile: Workspace) -> str:
    """Our page about that week."""
    return watch_report(hostile, week(3))


SVG_THAT_ACTS = {"image", "use", "foreignobject", "animate", "animatetransform", "animatemotion", "set"}
"""Elements of SVG that fetch, move or hold others; our pictures have none of them."""
DRAWN = {
    *("xmlns", "viewbox", "width", "height", "role", "aria-label", "text-anchor", "points"),
    *("x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx"),
}
"""Attributes of our pictures: places and names, none of which is an address or runs anything."""


def pictures_in_figures(document: Document) -> bool:
    """Return whether the only pictures are those that stand in a figure of ours, one in each, and there are some."""
    tags = [tag for tag, _ in document.elements]
    followers = [tags[place + 1] for place, tag in enumerate(tags) if tag == "figure"]
    return bool(followers) and followers == ["svg"] * tags.count("svg")


def write_page(page: str, folder: Path) -> str:
    """Return the address of a page in a file."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    return file.as_uri()


def test_the_browser_runs_what_a_careless_page_lets_through(tmp_path: Path) -> None:
    careless = f"<html><head><title>calm</title></head><body>{HOSTILE[0]}</body></html>"
    assert Document(dom_of(write_page(careless, tmp_path), tmp_path / "profile")).title == "owned"


def test_our_page_has_no_element_that_a_page_of_harmless_names_has_not(own_page: str, tmp_path: Path) -> None:
    hostile, harmless = Document(own_page), Document(watch_report(judged_week(tmp_path, moved_weeks()), week(3)))
    assert hostile.tags == harmless.tags
    assert pictures_in_figures(hostile)
    assert not hostile.tags & {
        "script",
        "img",
        "iframe",
        "a",
        "object",
        "embed",
        "form",
        "link",
        "base",
        *SVG_THAT_ACTS,
    }
    assert hostile.running == []
    assert {name for _, attributes in hostile.elements for name in attributes} <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "class",
        "scope",
        *DRAWN,
    }


def test_our_page_shows_every_hostile_name_as_the_text_that_it_is(own_page: str) -> None:
    texts = Document(own_page).texts
    assert [name for name in HOSTILE if name.isprintable() and name not in texts] == []


def test_what_cannot_be_seen_is_spelled_out(own_page: str) -> None:
    assert "\u202e" not in own_page
    assert "\x00" not in own_page
    assert "\\u202eelttit\\u0000" in own_page


def test_in_a_browser_our_page_keeps_its_title_and_gains_no_element(own_page: str, tmp_path: Path) -> None:
    document = Document(dom_of(write_page(own_page, tmp_path), tmp_path / "profile"))
    assert document.title == f"toy, partition {week(3)}"
    assert document.running == []
    assert "script" not in document.tags
    assert len(document.elements) == len(Document(own_page).elements)


def test_the_model_card_of_such_a_model_runs_nothing_in_a_browser_either(hostile: Workspace, tmp_path: Path) -> None:
    card = as_html(write_model_card(hostile, "1"))
    document = Document(dom_of(write_page(card, tmp_path), tmp_path / "profile"))
    assert HOSTILE[0] in document.text
    assert "owned" not in document.title
    assert document.running == []
    assert not document.tags & {"script", "img", "iframe", *SVG_THAT_ACTS}
    assert pictures_in_figures(document)
