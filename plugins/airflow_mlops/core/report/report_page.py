"""Render sections as one HTML page without scripts and external resources; every name and value is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from airflow_mlops.core.charts.svg import printable
from airflow_mlops.core.report.page_html import STYLE
from airflow_mlops.core.report.page_parts import Section, Table

LONGEST = 600
"""Characters of a text that are shown: a name may be as long as a file."""
SHORT = 24
CLASSES = {
    "alarm": "bad",
    "failed": "bad",
    "no alarm": "good",
    "met": "good",
    "insufficient data": "unsure",
    "too little history": "unsure",
}
COLOURS = """
.bad { background: #ffe3e0; } .good { background: #e3f5e6; } .unsure { background: #fff4e0; }
body { max-width: 76rem; } td { overflow-wrap: anywhere; } .short { white-space: nowrap; }
@media (prefers-color-scheme: dark) {
  .bad { background: #55211c; } .good { background: #173a20; } .unsure { background: #3a2d12; }
}
"""


def html_page(title: str, sections: Sequence[Section]) -> str:
    """Return sections as one HTML page, without scripts, images or addresses, and locked against them."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{as_text(title)}</title>\n<style>{STYLE}{COLOURS}</style>\n</head>\n<body>\n"
        f"<h1>{as_text(title)}</h1>\n"
        + "\n".join(html_section(section) for section in sections)
        + "\n</body>\n</html>\n"
    )


def html_section(section: Section) -> str:
    """Return a section as HTML: a heading, the sentences below it, its pictures, and its tables."""
    texts = [f"<p>{as_text(text)}</p>" for text in section.texts]
    pictures = [f"<figure>{picture}</figure>" for picture in section.pictures]
    return "\n".join([f"<h2>{as_text(section.title)}</h2>", *texts, *pictures, *map(html_table, section.tables)])


def html_table(table: Table) -> str:
    """Return a table as HTML; a cell that is a verdict has its colour."""
    head = "".join(f'<th scope="col">{as_text(cell)}</th>' for cell in table.head)
    rows = ["<tr>" + "".join(map(html_cell, row)) + "</tr>" for row in table.rows]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def html_cell(text: str) -> str:
    """Return a cell of a table as HTML; short texts are not broken into lines."""
    kinds = [CLASSES[text]] if text in CLASSES else []
    kinds += ["short"] if len(text) <= SHORT else []
    return f'<td class="{" ".join(kinds)}">{as_text(text)}</td>' if kinds else f"<td>{as_text(text)}</td>"


def as_text(text: str) -> str:
    r"""Return a text as escaped HTML, cut to ``LONGEST`` characters, with invisible characters spelled out.

    >>> as_text('<b onclick="x()">\u202e')
    '&lt;b onclick=&quot;x()&quot;&gt;\\u202e'
    """
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return escape(printable(cut))
