"""The sticky split: a key is always on the same side, and stays there as the share grows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

BUCKETS = 10_000


def sticky_share(keys: Iterable[object], *, salt: str, percent: float) -> npt.NDArray[np.bool_]:
    """Return which keys the challenger serves, shape (n_keys,).

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
    start = hashlib.blake2b(salt.encode() + b"|", digest_size=8)
    buckets = []
    for key in keys:
        of_key = start.copy()
        of_key.update(str(key).encode())
        buckets.append(int.from_bytes(of_key.digest(), "big") % BUCKETS)
    return np.asarray(buckets, np.int64) < percent * BUCKETS / 100
