"""Which keys of a partition stand there more than once, in memory that does not grow with the rows.

Keys arrive as 64-bit hashes. Beyond two million of them they are spooled into files by their highest
bits, so that equal hashes lie in one file, and the files are looked at one after another. Different keys
can share a hash, in one of some 370,000 partitions of ten million rows: whoever acts on a repeated hash
looks at the keys.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np

from airflow_mlops.core.data.row_hash import Hashes

IN_MEMORY = 2_000_000
BUCKET_BITS = 8


class KeySpool:
    """Takes in hashes and returns those that came more than once.

    Parameters
    ----------
    in_memory : int, default 2,000,000
        Hashes of 8 bytes that are held before they go to files.

    A context: leaving it removes the files.
    """

    def __init__(self, *, in_memory: int = IN_MEMORY) -> None:
        self.in_memory = in_memory
        self.added = 0
        self._held: list[Hashes] = []
        self._held_rows = 0
        self._folder: TemporaryDirectory[str] | None = None

    def add(self, hashes: Hashes) -> None:
        """Take in hashes, shape (n,); they are copied or spooled, so the array may be used again."""
        self._held.append(hashes.copy())
        self._held_rows += len(hashes)
        self.added += len(hashes)
        if self._held_rows > self.in_memory:
            self._spool()

    def repeated(self) -> Hashes:
        """Return, in ascending order, every hash that was added more than once."""
        return self._each_repeated()[0]

    def surplus(self) -> int:
        """Return how many of the hashes were there already when they were added: all but the first of each."""
        return self._each_repeated()[1]

    def _each_repeated(self) -> tuple[Hashes, int]:
        if self._folder is None:
            return _repeated(np.concatenate([np.empty(0, np.uint64), *self._held]))
        self._spool()
        found = [_repeated(np.fromfile(path, np.uint64)) for path in sorted(Path(self._folder.name).iterdir())]
        hashes = np.concatenate([np.empty(0, np.uint64), *(each for each, _ in found)])
        return hashes, sum(surplus for _, surplus in found)

    def _spool(self) -> None:
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="airflow-mlops-keys-")
        hashes = np.sort(np.concatenate([np.empty(0, np.uint64), *self._held]))
        self._held, self._held_rows = [], 0
        starts = np.arange(2**BUCKET_BITS, dtype=np.uint64) << np.uint64(64 - BUCKET_BITS)
        for bucket, part in enumerate(np.split(hashes, np.searchsorted(hashes, starts[1:]))):
            if len(part):
                with (Path(self._folder.name) / f"{bucket:03}").open("ab") as file:
                    part.tofile(file)

    def close(self) -> None:
        """Remove the files and forget the hashes."""
        self._held, self._held_rows, self.added = [], 0, 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> KeySpool:
        """Return the spool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the files, whatever happened."""
        self.close()


def _repeated(hashes: Hashes) -> tuple[Hashes, int]:
    ordered = np.sort(hashes)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.unique(again), len(again)
