"""A Parquet file of which nothing but the footer is left: who reads its rows fails."""

from __future__ import annotations

from pathlib import Path

MAGIC = b"PAR1"


def wipe_rows(path: Path) -> None:
    """Overwrite everything between the first bytes of a file and its footer by zeros."""
    content = path.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    assert content[:4] == content[-4:] == MAGIC
    path.write_bytes(MAGIC + bytes(len(content) - footer - 4) + content[-footer:])
