"""The key of a partition: the tick that closes it.

A key is an ISO time without a zone, ``2013-03-10T00:00:00``. The partition holds the events up to that time, so
everything known at a key lies in partitions at or before it, and the order of the strings is the order of time.
"""

from __future__ import annotations

from datetime import datetime

from airflow_mlops.core.errors import DataError


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


def partition_slug(key: str, *, date_only: bool = True) -> str:
    """Return the form of ``key`` in file names: ``2013-03-10T0600``, or ``2013-03-10`` at midnight.

    Parameters
    ----------
    date_only : bool
        Whether a midnight is written without its time; not where other partitions of the same day exist.
    """
    moment = datetime.fromisoformat(key)
    is_date = date_only and moment.time() == datetime.min.time()
    return moment.strftime("%Y-%m-%d" if is_date else "%Y-%m-%dT%H%M")
