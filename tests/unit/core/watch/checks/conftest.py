"""What the tests of checks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Let trees grow on one thread, as ``run_checks`` has it."""
    with threadpool_limits(1):
        yield
