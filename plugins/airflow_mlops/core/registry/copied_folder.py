"""Folders of versions on this machine: made aside, and put in place whole."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlops.core.lake import LakeFiles


@contextmanager
def put_in_place(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; afterwards it is ``folder``, and what was there before is gone.

    Whoever reads the old one meanwhile keeps the files that are open; nobody sees half of the new one.
    """
    name = uuid.uuid4().hex
    part, old = (folder.with_name(f".{folder.name[:16]}.{name}.{end}") for end in ("part", "old"))
    part.mkdir(parents=True)
    try:
        yield part
        while not moved(part, folder):
            move_away(folder, old)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def fetched_into(folder: Path, files: LakeFiles, place: str) -> bool:
    """Fill ``folder`` with the files that a lake keeps below ``place``; False if there are none."""
    names = files.names(place)
    if not names:
        return False
    with put_in_place(folder) as part:
        for name in names:
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.get(f"{place}/{name}"))
    return True


def moved(part: Path, folder: Path) -> bool:
    """Move ``part`` to ``folder``; False if something is there."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        return False
    return True


def move_away(folder: Path, old: Path) -> None:
    """Move a folder out of the way, unless somebody else just did."""
    shutil.rmtree(old, ignore_errors=True)
    try:
        folder.rename(old)
    except FileNotFoundError:
        return
