"""Seed the generators of the whole process, which estimators without a seed of their own draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seed_generators(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and numpy, and restore their states at the end."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
