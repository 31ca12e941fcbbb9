"""Fixtures of the tests of checks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Fit trees on one thread, as ``run_checks`` does."""
    with threadpool_limits(1):
        yield
