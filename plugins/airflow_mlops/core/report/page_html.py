"""Render a model card as Markdown, or as HTML without scripts and without external resources."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from airflow_mlops.core.charts.svg import CHART_STYLE

if TYPE_CHECKING:
    from airflow_mlops.core.report.page_parts import ModelCard, Table

STYLE = (
    CHART_STYLE
    + """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b2733; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #d5dde5; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .92rem; }
th, td { border: 1px solid #d5dde5; padding: .25rem .6rem; text-align: left; vertical-align: top; }
th { background: #f0f4f8; } .lacks { background: #fff4e0; padding: .5rem .8rem; }
@media (prefers-color-scheme: dark) {
  body { background: #12181f; color: #dbe4ec; } th { background: #1d2731; } h2, th, td { border-color: #33414e; }
  .lacks { background: #3a2d12; }
}
figure { margin: .8rem 0; overflow-x: auto; }
@media (prefers-color-scheme: dark) { :root { --text: #dbe4ec; --quiet: #a9b6c3; --rule: #33414e; --series: #6cb2ff;
  --bad: #ff8f87; --good: #6fd08c; --unsure: #f0c264; --limit: #c4a5ff; --second: #77838f; } }
"""
)


def as_markdown(card: ModelCard) -> str:
    """Return the card as Markdown."""
    lines = [f"# {escape_markdown(card.title)}", ""]
    if card.missing:
        lines += [f"**This card lacks: {escape_markdown(', '.join(card.missing))}.**", ""]
    for section in card.sections:
        lines += [f"## {escape_markdown(section.title)}", ""]
        for text in section.texts:
            lines += [escape_markdown(text), ""]
        for table in section.tables:
            lines += [*_markdown_table(table), ""]
    return "\n".join(lines)


def as_html(card: ModelCard) -> str:
    """Return the card as one HTML page, without scripts, images or addresses, and locked against them."""
    body = [f"<h1>{escape(card.title)}</h1>"]
    if card.missing:
        body.append(f'<p class="lacks">This card lacks: {escape(", ".join(card.missing))}.</p>')
    for section in card.sections:
        body.append(f"<h2>{escape(section.title)}</h2>")
        body += [f"<p>{escape(text)}</p>" for text in section.texts]
        body += [f"<figure>{picture}</figure>" for picture in section.pictures]
        body += [_html_table(table) for table in section.tables]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(card.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def escape_markdown(text: str) -> str:
    """Return a text on one line with Markdown's characters escaped: names of columns may hold anything."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(text).split()))


def _markdown_table(table: Table) -> list[str]:
    rows = [table.head, *table.rows]
    lines = ["| " + " | ".join(escape_markdown(cell) for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(table.head), *lines[1:]]


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
