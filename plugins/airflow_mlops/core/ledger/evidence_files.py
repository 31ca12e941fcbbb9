"""Evidence as files, ``<digest>.json`` on disk or in S3, written once and never changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.lake import Lake, LakeFiles, replace_file
from airflow_mlops.core.ledger.record import canonical_json


class EvidenceFiles:
    """JSON documents in a folder, named by the SHA-256 of their content."""

    def __init__(self, folder: Lake | str | Path) -> None:
        self._folder = folder if isinstance(folder, Lake) else Lake.on_disk(folder)

    def put(self, document: Any) -> str:
        """Store ``document`` and return its digest."""
        content = canonical_json(document).encode()
        digest = hashlib.sha256(content).hexdigest()
        name = f"{digest}.json"
        if not self._folder.is_local:
            files = LakeFiles(self._folder)
            if not files.holds(name):
                files.put(name, content)
        elif not (self._folder.path / name).exists():
            with external_write("evidence.put"), replace_file(self._folder.path / name) as part:
                part.write_bytes(content)
        return digest

    def get(self, digest: str) -> Any:
        """Return the document of ``digest``; see :meth:`EvidenceStore.get`."""
        name = f"{digest}.json"
        try:
            local = self._folder.is_local
            content = (self._folder.path / name).read_bytes() if local else LakeFiles(self._folder).get(name)
        except FileNotFoundError:
            raise LedgerError(f"evidence {digest} is missing from {self._folder.uri}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise LedgerError(f"evidence {self._folder.uri}/{name} was changed after it was written")
        return json.loads(content)

    def location(self, digest: str) -> str:
        """Return the path or address of the document of ``digest``, for a person."""
        return f"{self._folder.uri}/{digest}.json"
