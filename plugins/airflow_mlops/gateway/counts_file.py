"""The counts of a gateway on its disk, which say of how many lines of the prediction log they are.

A write of the log has three steps: its files beside their names, then the counts of those lines and all before them,
with the names, then the names. A process that is killed before the second step has lost the lines and their counts; one
that is killed after it finds the names when it starts again, and finishes. So counts and lines agree after any kill.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from airflow_mlops.gateway.durable_file import replace_durably
from airflow_mlops.gateway.request_counts import RequestCounts

log = logging.getLogger(__name__)
FILE = "counts.npz"
LOG_FILES = "log_files"


class CountsFile:
    """The file of the counts.

    Parameters
    ----------
    folder : Path
        The gateway's own folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def write(self, counts: Mapping[str, npt.NDArray[Any]], log_files: Iterable[str]) -> None:
        """Replace the counts; they are on disk when this returns.

        Parameters
        ----------
        counts : mapping of str to array
            The counts of the traffic in force, by :meth:`RequestCounts.to_arrays`.
        log_files : iterable of str
            Files of the log whose lines they count, and that have no name yet; relative to the folder of the log.
        """
        arrays: dict[str, Any] = {**counts, LOG_FILES: np.array(list(log_files), np.str_)}
        replace_durably(self._file, "gateway.counts", lambda handle: np.savez(handle, **arrays))

    def log_files(self) -> list[str]:
        """Return the files of the log that the last write was about."""
        return [str(name) for name in self._read().get(LOG_FILES, ())]

    def counts(self, order: int, width: int) -> RequestCounts:
        """Return the counts that began with record ``order``, for predictions of ``width`` numbers; new ones without.

        Counts that cannot be read are given up, with a line in the log: they must not keep anybody from being served.
        """
        arrays = self._read()
        try:
            if arrays and int(arrays["order"]) == order:
                return RequestCounts.from_arrays(arrays, width)
        except (ValueError, KeyError, TypeError) as error:
            self._give_up(error)
        return RequestCounts(order, width)

    def _read(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of the file; none without a file, or where it cannot be read."""
        try:
            with np.load(self._file, allow_pickle=False) as arrays:
                return dict(arrays)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            self._give_up(error)
            return {}

    def _give_up(self, error: Exception) -> None:
        log.error("%s cannot be read, so its counts begin at zero: %s: %s", self._file, type(error).__name__, error)
