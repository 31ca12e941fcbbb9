"""The key of a partition: the tick that closes it.

A key is an ISO time without a zone, ``2013-03-10T00:00:00``. The partition holds the events up to that time, so
everything known at a key lies in partitions at or before it, and the order of the strings is the order of time.
"""

from __future__ import annotations

import re
from datetime import datetime

from airflow_mlops.core.errors import DataError, DeclarationError

_QUARTERLY = "0 0 1 */3 *"
"""Airflow's meaning of @quarterly, which croniter does not know."""


def partition_key(text: str) -> str:
    """Return the canonical partition key of an ISO date or time.

    Raises
    ------
    DataError
        If it is no date or time, or carries a time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"partition {text!r} is no ISO date or time such as 2013-03-10T00:00:00") from None
    if moment.tzinfo is not None:
        raise DataError(f"partition {text!r} carries a time zone; partition keys are plain times")
    return moment.replace(microsecond=0).isoformat()


def partition_slug(key: str) -> str:
    """Return the form of ``key`` in file names: ``2013-03-10``, or ``2013-03-10T0600`` within a day."""
    moment = datetime.fromisoformat(key)
    return moment.strftime("%Y-%m-%d" if moment.time() == datetime.min.time() else "%Y-%m-%dT%H%M")


def previous_tick(every: str, key: str) -> str:
    """Return the tick before ``key``, where its partition begins.

    Parameters
    ----------
    every : str
        Cron expression of the partitions, read in UTC like the keys.
    key : str
        Key of the partition.

    Raises
    ------
    DeclarationError
        If ``every`` is no cron expression.
    """
    return _tick(every, key, forward=False)


def next_tick(every: str, key: str) -> str:
    """Return the tick after ``key``; see :func:`previous_tick`."""
    return _tick(every, key, forward=True)


def _tick(every: str, key: str, *, forward: bool) -> str:
    from croniter import CroniterError, croniter  # here, so that the parse of a Dag file does not pay for it

    try:
        ticks = croniter(_QUARTERLY if every == "@quarterly" else every, datetime.fromisoformat(key))
        moment = ticks.get_next(datetime) if forward else ticks.get_prev(datetime)
    except CroniterError as error:
        raise DeclarationError(f"{every!r} is no cron expression: {error}", key="data.every") from None
    return partition_key(moment.isoformat())


def fill_template(template: str, key: str) -> str:
    """Return ``template`` with the date of the partition for each ``{partition}``, ``{year}``, ... ``{hour}``.

    >>> fill_template("in/{year}/{month}/{partition}-{hour}.csv", "2013-03-10T06:00:00")
    'in/2013/03/2013-03-10T0600-06.csv'
    """
    moment = datetime.fromisoformat(key)
    parts = {
        "partition": partition_slug(key),
        "year": f"{moment:%Y}",
        "month": f"{moment:%m}",
        "day": f"{moment:%d}",
        "hour": f"{moment:%H}",
    }
    return re.sub(r"\{(partition|year|month|day|hour)\}", lambda match: parts[match[1]], template)
