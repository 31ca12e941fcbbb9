"""A partition is named by the tick that closes it.

A key is an ISO time without a zone, ``2013-03-10T00:00:00``: the partition holds what happened up to
then, so everything that is known at a key lies in partitions at or before it, and the order of the
strings is the order of time.
"""

from __future__ import annotations

from datetime import datetime

from airflow_mlops.core.errors import DataError


def partition_key(text: str) -> str:
    """Return ``text``, an ISO date or time, as a canonical partition key.

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
    """Return ``key`` as it stands in file names: ``2013-03-10``, or ``2013-03-10T0600`` within a day."""
    moment = datetime.fromisoformat(key)
    return moment.strftime("%Y-%m-%d" if moment.time() == datetime.min.time() else "%Y-%m-%dT%H%M")
