"""Replace the folder of a version as a whole, like :func:`airflow_mlops.core.lake.replace_file`."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.core.fault_point import external_write

if TYPE_CHECKING:
    from airflow_mlops.core.lake import LakeFiles


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``folder`` when the context ends.

    A reader of the old folder keeps the files that it has open; no reader sees half of the new one.
    """
    name = uuid.uuid4().hex
    part, old = (folder.with_name(f".{folder.name[:16]}.{name}.{end}") for end in ("part", "old"))
    part.mkdir(parents=True)
    try:
        yield part
        with external_write("scratch.replace_folder"):
            while not try_move(part, folder):
                move_away(folder, old)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def fetch_folder(folder: Path, files: LakeFiles, place: str) -> bool:
    """Fill ``folder`` with the files of a lake below ``place``; return False if there are none."""
    names = files.names(place)
    if not names:
        return False
    with replace_folder(folder) as part:
        for name in names:
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.get(f"{place}/{name}"))
    return True


def try_move(part: Path, folder: Path) -> bool:
    """Move ``part`` to ``folder``; return False if ``folder`` exists."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        return False
    return True


def move_away(folder: Path, old: Path) -> None:
    """Move a folder out of the way, unless another process has done so."""
    shutil.rmtree(old, ignore_errors=True)
    try:
        folder.rename(old)
    except FileNotFoundError:
        return
