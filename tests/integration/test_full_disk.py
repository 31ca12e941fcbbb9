"""A disk that is full refuses no row and loses none: each task fails, and the next attempt does what was left.

Every store of the loop is on one disk: lake, ledger, MLflow, scratch. Where no file system may be mounted, the process
may write no file any more instead.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.rollout.score_partition import score_partition
from tests.drill.history import MODULE, Place, Results, Step, answered, decided, ingested, rolled_out, trained
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS


@dataclass(frozen=True)
class Disk:
    """A folder, and a context in which nothing more can be written to it."""

    folder: Path
    full: Callable[[], AbstractContextManager[None]]


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill a file system to its last byte."""
    ballast = folder / "ballast"
    try:
        ballast.write_bytes(bytes(shutil.disk_usage(folder).free))
        assert shutil.disk_usage(folder).free == 0
        yield
    finally:
        ballast.unlink()


@contextmanager
def no_files() -> Iterator[None]:
    """Refuse every byte that this process writes to a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=["a file system", "a limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = request.param == "a file system" and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], stderr=subprocess.DEVNULL
    )
    yield Disk(folder, partial(filled, folder) if mounted else no_files)
    if mounted:
        subprocess.check_call(["umount", "--lazy", str(folder)])


def history() -> Iterator[Step]:
    """Yield the tasks up to the first champion, and what it predicts."""
    for key in KEYS[:2]:
        yield from ingested(key)
    yield from decided(KEYS[1], "nightly")
    yield from trained(KEYS[1])
    yield from answered(KEYS[1], approve=True)
    yield from rolled_out(KEYS[1])
    yield from ingested(KEYS[2])
    yield Step("score", lambda workspace, _: score_partition(workspace, KEYS[2]).to_json())


def test_every_task_that_meets_a_full_disk_fails_is_tried_again_and_loses_nothing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    place = Place(disk.folder / "project")
    place.make()
    monkeypatch.syspath_prepend(str(place.root))
    for name in [name for name in sys.modules if name.partition(".")[0] == MODULE]:
        monkeypatch.delitem(sys.modules, name)
    results, errors = Results(), dict[str, Exception]()
    for step in history():
        with disk.full():
            try:
                step.run(place.open(), results)
            except Exception as error:
                errors[step.name] = error
        results[step.name] = step.run(place.open(), results)
    for name, error in errors.items():
        assert not isinstance(error, MlopsError) or error.retryable, f"{name} is not tried again: {error}"
    assert {"snapshot", "validate", "publish", "decide", "fit", "evaluate", "register", "start", "score"} <= set(errors)
    workspace = place.open()
    assert_invariants(workspace)
    kinds = Counter(record.kind for record in workspace.ledger.records())
    assert kinds["snapshot_published"] == 3
    assert kinds["partition_refused"] == 0
    assert kinds["promoted"] == kinds["predictions_published"] == 1
