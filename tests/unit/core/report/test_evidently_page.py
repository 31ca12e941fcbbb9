"""Evidently's page with hostile names in a real browser, served as the Airflow UI serves it: nothing of them runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from airflow_mlops.core.errors import DataError, NotReadyError
from airflow_mlops.core.report.evidently_report import PageColumns, draw_page, evidently_report
from airflow_mlops.core.report.kept_reports import keep_report, newest_page, newest_report
from airflow_mlops.core.report.page_headers import HEADERS, POLICIES
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.drift.ask_evidently import run_report, suppress_warnings
from airflow_mlops.core.watch.drift.evidently_rows import ComparableColumn
from airflow_mlops.core.workspace import Workspace
from tests.headless_chromium import Document, dom_of
from tests.unit.core.report.watched_week import HOSTILE, hostile_week, moved_weeks, scored_week
from tests.unit.core.toy_loop import ingest, toy_rows, week


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A judged week with hostile names of columns and hostile values of a category."""
    return hostile_week(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def page(hostile: Workspace) -> str:
    """Evidently's page about that week."""
    return evidently_report(hostile, week(3))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Evidently's page about a week of plain names."""
    return evidently_report(scored_week(tmp_path_factory.mktemp("harmless"), moved_weeks()), week(3))


@contextmanager
def serve_page(page: str) -> Iterator[str]:
    """Give the address of a page that comes with the headers of the Airflow UI."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            for name, value in {**HEADERS, "Content-Security-Policy": POLICIES["evidently"]}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_evidently_left_to_itself_would_run_what_a_column_is_called(tmp_path: Path) -> None:
    name = "</script><script>document.title='owned'</script>"
    column = ComparableColumn("number", pd.Series(range(60), dtype=float), pd.Series(range(60), dtype=float))
    with suppress_warnings():
        careless = run_report({name: column}, {name: ("psi", 0.1)}).get_html_str(as_iframe=False)
    file = tmp_path / "page.html"
    file.write_text(careless, encoding="utf-8")
    assert Document(dom_of(file.as_uri(), tmp_path / "profile")).title == "owned"


def test_outside_its_legend_the_page_has_no_hostile_name_at_all(page: str) -> None:
    before, legend, after = page.partition('<div class="legend">')
    _legend, end, after = after.partition("</div>")
    assert legend
    assert end
    assert [name for name in HOSTILE if name in before + after and name != "__proto__"] == []
    assert "'owned'" not in before + after


def test_the_legend_says_what_every_name_stands_for_and_is_text(page: str) -> None:
    legend = Document(page.partition('<div class="legend">')[2].partition("</div>")[0])
    texts = legend.texts
    assert [name for name in HOSTILE if name.isprintable() and texts.count(name) != 2] == []
    assert legend.tags <= {"h2", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert legend.running == []


def test_in_a_browser_the_page_is_drawn_and_nothing_hostile_runs(page: str, harmless: str, tmp_path: Path) -> None:
    with serve_page(page) as address:
        document = Document(dom_of(address, tmp_path / "profile", milliseconds=10_000))
    with serve_page(harmless) as address:
        plain = Document(dom_of(address, tmp_path / "plain", milliseconds=10_000))
    assert "owned" not in document.title
    assert document.title == plain.title
    assert "Drift in column 'c" in document.text, "Evidently's own scripts did not run"
    assert set(document.running) == set(plain.running)
    scripts = [[tag for tag, _ in page.elements].count("script") for page in (document, plain)]
    assert scripts[0] == scripts[1]
    assert not [attributes for tag, attributes in document.elements if tag == "img" and attributes.get("src") == "x"]


def test_a_script_in_the_sandbox_has_no_origin_and_reaches_nobody(tmp_path: Path) -> None:
    script = (
        "<script>document.title = self.origin; fetch(location.href).catch(() => { document.title += ' alone'; });"
        "try { localStorage.length } catch { document.title += ' empty' }</script>"
    )
    with serve_page(f"<!doctype html><html><head><title>calm</title></head><body>{script}</body></html>") as address:
        document = Document(dom_of(address, tmp_path / "profile"))
    assert document.title == "null empty alone"


def test_columns_that_cannot_be_compared_are_left_out_and_named(tmp_path: Path) -> None:
    weeks = {number: toy_rows(number, rows=600).assign(z=1.0) for number in range(4)}
    weeks[3]["z"] = pd.array([None] * 600, dtype="Float64")
    legend = Document(evidently_report(scored_week(tmp_path, weeks), week(3))).texts
    assert legend[legend.index("z") + 1] == "holds no value that could be compared in the window"


def test_a_column_at_which_evidently_raises_is_left_out_and_the_others_are_drawn() -> None:
    good = ComparableColumn("number", pd.Series(range(60), dtype=float), pd.Series(range(60), dtype=float))
    broken = ComparableColumn("number", pd.Series([1.0] * 60), pd.Series(["text"] * 60))
    columns = PageColumns({"c1": good, "c2": broken}, {"c1": "fine", "c2": "odd"}, {}, "")
    page = draw_page(columns, {"c1": ("psi", 0.1), "c2": ("psi", 0.1)})
    assert "Drift in column 'c1'" in page
    assert "'c2'" not in page
    assert columns.left_out["odd"].startswith("Evidently raised ")
    with pytest.raises(DataError, match="Evidently raised"):
        draw_page(PageColumns({"c2": broken}, {"c2": "odd"}, {}, ""), {"c2": ("psi", 0.1)})


def test_the_page_states_the_method_and_threshold_of_every_column(tmp_path: Path) -> None:
    drift = {"engine": "evidently", "method": "ks", "threshold": 0.01}
    workspace = scored_week(tmp_path, moved_weeks(), watch={"drift": drift})
    texts = Document(evidently_report(workspace, week(3))).texts
    lines = [texts[place : place + 4] for place, text in enumerate(texts) if text in ("c1_kind", "c2_x")][:2]
    assert lines == [["c1_kind", "kind", "jensenshannon", "0.1"], ["c2_x", "x", "ks", "0.01"]]


def test_the_page_is_kept_once_though_evidently_draws_it_differently_each_time(hostile: Workspace) -> None:
    first = keep_report(hostile, week(3), "somebody asked", engine="evidently")
    assert keep_report(hostile, week(3), "somebody asked again", engine="evidently") == first
    reports = [record for record in list(hostile.ledger.records()) if record.kind == "report_rendered"]
    assert len(reports) == 1
    newest = newest_report(hostile.ledger, week(3), "evidently")
    assert newest is not None
    assert (newest.report, newest_report(hostile.ledger, week(3), "own")) == (first, None)


def test_evidentlys_library_is_kept_once_for_all_pages_and_comes_back_with_each(tmp_path: Path) -> None:
    workspace = scored_week(tmp_path, {**moved_weeks(), 4: toy_rows(4, rows=600)})
    ingest(workspace, week(4))
    score_partition(workspace, week(4))
    for number in (3, 4):
        keep_report(workspace, week(number), "somebody asked", engine="evidently")
    records = [record for record in list(workspace.ledger.records()) if record.kind == "report_rendered"]
    libraries = [record.evidence[1:] for record in records]
    assert libraries[0] == libraries[1] != ()
    assert all(len(workspace.evidence.get(record.evidence[0])["page"]) < 1_000_000 for record in records)
    pages = [newest_page(workspace.ledger, workspace.evidence, week(number), "evidently") for number in (3, 4)]
    with serve_page(str(pages[1])) as address:
        document = Document(dom_of(address, tmp_path / "profile", milliseconds=10_000))
    assert "Drift in column 'c1_kind'" in document.text


def test_a_name_that_looks_like_the_mark_of_a_part_stays_a_name(tmp_path: Path) -> None:
    weeks = {number: toy_rows(number, rows=200).assign(kind="<!--part 0-->") for number in range(4)}
    workspace = scored_week(tmp_path, weeks)
    keep_report(workspace, week(3), "somebody asked", engine="evidently")
    page = str(newest_page(workspace.ledger, workspace.evidence, week(3), "evidently"))
    assert page.count("&lt;!--part 0--&gt;") == 1
    assert "<!--part 0-->" not in page


def test_a_week_that_was_not_scored_has_no_page_of_evidently(hostile: Workspace) -> None:
    with pytest.raises(NotReadyError, match="was not scored"):
        evidently_report(hostile, week(1))
