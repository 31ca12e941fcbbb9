"""Paths and queries with placeholders for the partition.

``{partition}`` and its parts ``{year}``, ``{month}``, ``{day}``, ``{hour}`` are those of the key, in UTC. ``{start}``
and ``{end}`` are the bounds of the partition on the clock of the loop: the tick before the key, which is the first
instant that the partition holds, and the tick of the key, which is the first that it does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule

_CODE = re.compile(r"%(.?)", re.DOTALL)
# No more than these: a code that only some platforms know would name other files elsewhere.
_CODES = "YymdHMSjGVuwUWbBaApIzZ%"
_PLACEHOLDER = re.compile(r"\{(?:(partition|year|month|day|hour)|(start|end)(?::([^{}]*))?)\}")
_PARTS = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H"}


def fill_template(
    template: str, key: str, schedule: PartitionSchedule, *, quote: Callable[[str], str] = lambda text: text
) -> str:
    """Return ``template`` with the values of the partition for its placeholders.

    Parameters
    ----------
    template : str
        Path or query; braces around other words stay.
    key : str
        Key of the partition.
    schedule : PartitionSchedule
        The ticks of the loop, for the bounds of the partition.
    quote : callable, optional
        Called with each value, as an address needs it.

    >>> weekly = PartitionSchedule("@weekly")
    >>> fill_template("in/{year}/{start:%Y%m%d}-{end}.csv", "2013-03-10T00:00:00", weekly)
    'in/2013/20130303-2013-03-10.csv'
    """

    def value(match: re.Match[str]) -> str:
        word, bound, form = match.groups()
        if bound is not None:
            return quote(_format_bound(bound, form, key, schedule))
        if word == "partition":
            return quote(schedule.slug(key))
        return quote(datetime.fromisoformat(key).strftime(_PARTS[word]))

    return _PLACEHOLDER.sub(value, template)


def require_placeholder(text: str) -> str:
    """Return a template that tells its partitions apart.

    Raises
    ------
    ValueError
        If it holds no placeholder, or a format that is none.
    """
    placeholders = list(_PLACEHOLDER.finditer(text))
    if not placeholders:
        raise ValueError("must hold {partition}, {start} or {end}, or {year}, {month}, {day}, {hour}")
    for match in placeholders:
        if match[3] is not None:
            _require_format(match[0], match[3])
    return text


def is_template(text: str) -> bool:
    """Return whether a path holds a placeholder, so that each partition has files of its own."""
    return _PLACEHOLDER.search(text) is not None


def _require_format(placeholder: str, form: str) -> None:
    codes = _CODE.findall(form)
    if not any(code != "%" for code in codes):
        raise ValueError(f"{placeholder} has a format without a date or time; write one such as {{start:%Y-%m-%d}}")
    unknown = next((code for code in codes if not code or code not in _CODES), None)
    if unknown is not None:
        raise ValueError(f"{placeholder} has the code '%{unknown}', which is none; take those of %{', %'.join(_CODES)}")


def _format_bound(bound: str, form: str | None, key: str, schedule: PartitionSchedule) -> str:
    tick = key if bound == "end" else schedule.previous(key)
    return schedule.local(tick).strftime(schedule.local_format if form is None else form)
