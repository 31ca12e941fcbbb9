"""Render the pages of the plugin: templates that escape every value, and the words and numbers in them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from airflow_mlops.core.charts.svg import CHART_STYLE, format_number, printable

FOLDER = Path(__file__).parent / "templates"
SHORT = 160


@cache
def environment() -> Environment:
    """Return the templates; every value is escaped, and a missing one is an error."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    templates.filters |= {
        "actor": format_actor,
        "moment": format_moment,
        "number": format_quantity,
        "partition": format_partition,
        "percent": format_share,
        "quote": lambda text: quote(str(text), safe=""),
        "shorten": shorten,
        "slug": lambda text: re.sub(r"[^a-z]+", "-", str(text).lower()),
        "words": lambda text: str(text).replace("_", " "),
    }
    return templates


def render(template: str, **values: Any) -> str:
    """Return a page made from a template."""
    return environment().get_template(template).render(**values)


@cache
def stylesheet() -> str:
    """Return the style of the pages and of the pictures in them."""
    return (FOLDER / "style.css").read_text(encoding="utf-8") + CHART_STYLE


def svg(picture: str) -> Markup:
    """Return a picture as markup that is not escaped again; the functions that draw escape every value in it."""
    return Markup(picture)  # noqa: S704


def visible(value: Any) -> Any:
    """Return a text with invisible characters spelled out, such as those that turn the direction of writing."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value)


def format_partition(key: str | None) -> str:
    """Return the key of a partition, without a time of midnight.

    >>> format_partition("2013-01-06T00:00:00"), format_partition("2013-01-06T05:00:00"), format_partition(None)
    ('2013-01-06', '2013-01-06 05:00', '–')
    """
    if key is None:
        return "–"
    return key.removesuffix(":00").replace("T", " ").removesuffix(" 00:00")


def format_quantity(value: float | None) -> str:
    """Return a count with thousands or a number with four digits, and a dash for None."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else format_number(value)


def format_share(share: float | None) -> str:
    """Return a share in whole percent, and a dash for None.

    >>> format_share(0.256), format_share(None)
    ('26 %', '–')
    """
    return "–" if share is None else f"{share:.0%}".replace("%", " %")


def format_moment(moment: datetime | None) -> str:
    """Return a time in UTC to the minute, and a dash for None."""
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def format_actor(actor: str) -> str:
    """Return who wrote a record: the Dag and the task of a run without its id, and the person who started it.

    >>> format_actor("bakery_train/register/asset_triggered__2026-11-30T03:00:00"), format_actor("person:ann")
    ('bakery_train/register', 'person:ann')
    >>> format_actor("bakery_control/control/manual__2026-11-30 for person:ann")
    'bakery_control/control for person:ann'
    """
    run, mark, person = actor.partition(" for person:")
    return "/".join(run.split("/")[:2]) + mark + person


def shorten(text: str | None, length: int = SHORT) -> str:
    """Return a text of at most ``length`` characters, cut between two words where it can be."""
    if text is None or len(text) <= length:
        return text or ""
    return f"{text[:length].rsplit(' ', 1)[0]}…"
