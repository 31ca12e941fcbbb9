"""Translate the errors of database drivers, which share no base class, into errors of this package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_mlops.core.errors import MlopsError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.sources.sql_columns import MYSQL

_MYSQL_LOST = frozenset((0, 1040, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1317, 1927, 1969, 3024))
"""Errors of MySQL that pass: a lost or killed connection, a shutdown, a time that is up, a lock of somebody else."""


@contextmanager
def translate_errors(where: str, driver: str) -> Iterator[None]:
    """Translate the errors of a driver into errors of this package; a lost connection is retryable."""
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:  # each driver has an Error class of its own (PEP 249)
        base = getattr(sys.modules[driver], "Error", ())
        if not isinstance(error, base):
            raise
        message = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        if _passes(error, driver):
            raise SourceUnreachableError(f"{where} does not answer: {message}") from error
        raise SourceUnreadableError(f"{where} cannot be read: {message}") from error


def _passes(error: Exception, driver: str) -> bool:
    """Return whether an error of a driver is one of the connection, so that trying again may help."""
    if driver in MYSQL:  # its drivers raise OperationalError for most errors of a statement, too
        code = error.args[0] if error.args else None
        return isinstance(code, int) and (code in _MYSQL_LOST or 2000 <= code < 3000)
    lost = isinstance(error, sys.modules[driver].OperationalError)
    # SQLite raises OperationalError for a missing table, too.
    return lost and (driver != "sqlite3" or "locked" in str(error))
