"""Projects whose model is served by real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.gateway.toy_project import ToyProject


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ToyProject]:
    made = ToyProject(tmp_path)
    yield made
    made.close()
