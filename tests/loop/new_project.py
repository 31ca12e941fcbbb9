"""A project in a temporary folder that has a package ``include`` of its own, as this repository has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest


@contextmanager
def work_in(folder: Path) -> Iterator[Path]:
    """Work in a project folder whose ``include`` is imported in place of this repository's."""
    before = forget_include()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        try:
            yield folder
        finally:
            forget_include()
            sys.modules.update(before)


def forget_include() -> dict[str, ModuleType]:
    """Remove the package ``include`` and its modules from those that are imported, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] == "include"]
    return {name: sys.modules.pop(name) for name in names}
