"""The identity of a replica: an id in its state folder, which one process at a time may use."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.gateway.durable_file import replace_durably

log = logging.getLogger(__name__)
FILE = "replica-id"
LOCK = "lock"


def read_replica_id(folder: Path) -> str:
    """Return the id of the replica whose state is in a folder; a new folder gets one."""
    file = folder / FILE
    if not file.exists():
        replace_durably(file, "gateway.replica_id", lambda handle: handle.write(uuid4().hex.encode()))
    return file.read_text().strip()


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Hold a state folder for this process, for the block.

    Raises
    ------
    RolloutError
        If another gateway runs on the same folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RolloutError(
                f"another gateway runs on the state folder {folder}; give each replica a --state-dir of its own"
            ) from None
        except OSError as error:
            log.warning("%s cannot be locked (%s): see that no other gateway runs on it", folder, error.strerror)
        yield
