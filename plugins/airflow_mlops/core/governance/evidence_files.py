"""Evidence as files: ``<digest>.json``, written once and never changed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.governance.record import canonical_json


class EvidenceFiles:
    """JSON documents in a folder, named by the SHA-256 of their content."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def put(self, document: Any) -> str:
        """Store ``document`` and return its digest."""
        content = canonical_json(document).encode()
        digest = hashlib.sha256(content).hexdigest()
        target = self._folder / f"{digest}.json"
        if not target.exists():
            write_whole(target, content)
        return digest

    def get(self, digest: str) -> Any:
        """Return the document of ``digest``; see :meth:`EvidenceStore.get`."""
        target = self._folder / f"{digest}.json"
        try:
            content = target.read_bytes()
        except FileNotFoundError:
            raise LedgerError(f"evidence {digest} is missing from {self._folder}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise LedgerError(f"evidence {target} was changed after it was written")
        return json.loads(content)


def write_whole(target: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
