"""Find duplicate keys of a partition in bounded memory.

Keys arrive as 64-bit hashes. Beyond two million they are spooled into files by their highest bits, so that equal
hashes are in one file, and the files are read one after another. Different keys can share a hash, in about one of
370,000 partitions of ten million rows: a caller that acts on a duplicate hash compares the keys themselves.
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
    """Collect hashes and return the duplicates; a context manager that removes its files on exit.

    Parameters
    ----------
    in_memory : int, default 2,000,000
        Number of hashes, of 8 bytes each, held in memory before they are spooled into files.
    """

    def __init__(self, *, in_memory: int = IN_MEMORY) -> None:
        self.in_memory = in_memory
        self.count = 0
        self._buffer: list[Hashes] = []
        self._buffered = 0
        self._folder: TemporaryDirectory[str] | None = None

    def add(self, hashes: Hashes) -> None:
        """Add hashes, shape (n,); they are copied, so the caller may reuse the array."""
        self._buffer.append(hashes.copy())
        self._buffered += len(hashes)
        self.count += len(hashes)
        if self._buffered > self.in_memory:
            self._spool()

    def duplicates(self) -> Hashes:
        """Return the hashes that were added more than once, in ascending order."""
        return self._find_duplicates()[0]

    def surplus(self) -> int:
        """Return the number of hashes that repeat an earlier one: all but the first of each."""
        return self._find_duplicates()[1]

    def _find_duplicates(self) -> tuple[Hashes, int]:
        if self._folder is None:
            return _duplicates_of(np.concatenate([np.empty(0, np.uint64), *self._buffer]))
        self._spool()
        parts = [_duplicates_of(np.fromfile(path, np.uint64)) for path in sorted(Path(self._folder.name).iterdir())]
        hashes = np.concatenate([np.empty(0, np.uint64), *(hashes for hashes, _ in parts)])
        return hashes, sum(surplus for _, surplus in parts)

    def _spool(self) -> None:
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="airflow-mlops-keys-")
        hashes = np.sort(np.concatenate([np.empty(0, np.uint64), *self._buffer]))
        self._buffer, self._buffered = [], 0
        starts = np.arange(2**BUCKET_BITS, dtype=np.uint64) << np.uint64(64 - BUCKET_BITS)
        for bucket, part in enumerate(np.split(hashes, np.searchsorted(hashes, starts[1:]))):
            if len(part):
                with (Path(self._folder.name) / f"{bucket:03}").open("ab") as file:
                    part.tofile(file)

    def close(self) -> None:
        """Remove the files and drop the hashes."""
        self._buffer, self._buffered, self.count = [], 0, 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> KeySpool:
        """Return the spool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the files."""
        self.close()


def _duplicates_of(hashes: Hashes) -> tuple[Hashes, int]:
    """Return the hashes that occur more than once, ascending, and the number of surplus occurrences."""
    ordered = np.sort(hashes)
    surplus = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.unique(surplus), len(surplus)
