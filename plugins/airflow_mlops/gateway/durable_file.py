"""Replace a file as a whole: it is on disk, with its name, when the call returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from airflow_mlops.core.fault_point import external_write


def replace_durably(file: Path, point: str, write: Callable[[IO[bytes]], object]) -> None:
    """Replace a file with what ``write`` puts into a handle; a process that is killed leaves the file as it was.

    Parameters
    ----------
    file : Path
        The file, in a folder that exists.
    point : str
        Name of the fault point around the replacement.
    write : callable
        Writes the content into an open handle.
    """
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as handle:
        write(handle)
        handle.flush()
        os.fsync(handle.fileno())
    with external_write(point):
        part.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk: a rename is there only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
