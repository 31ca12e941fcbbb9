"""Drop the rows of erased subjects at ingest: a source may still deliver them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.masking import keyed_hash, mask_key, refuse_other_key
from airflow_mlops.core.data.read_text import format_column

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.workspace import Workspace


class Erasure:
    """Drops the rows of erased subjects from batches; ``rows`` counts them."""

    def __init__(self, workspace: Workspace, state: LoopState) -> None:
        self.rows = 0
        self._forgotten = frozenset(state.forgotten)
        self._column = subject_column(workspace)
        self._key = mask_key(workspace.secret, self._column) if self._forgotten else b""
        if self._forgotten:
            refuse_other_key(self._key, state.mask_key)

    def drop_forgotten(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches without the rows of erased subjects."""
        for batch in batches:
            if not self._forgotten or self._column not in batch.schema.names:
                yield batch
                continue
            texts = format_column(batch.column(self._column)).dictionary_encode()
            is_forgotten = np.array(
                [text is not None and self._is_forgotten(text) for text in texts.dictionary.to_pylist()], bool
            )
            codes = texts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            mask = np.append(is_forgotten, False)[codes]
            self.rows += int(mask.sum())
            yield batch.filter(pa.array(~mask)) if mask.any() else batch

    def _is_forgotten(self, text: str) -> bool:
        return subject_hash(text, self._key) in self._forgotten


def subject_column(workspace: Workspace) -> str:
    """Return the column that names the subject of a row: the contract's, or the key."""
    contract = workspace.contract
    return contract.subject if contract is not None and contract.subject else workspace.loop.data.key


def subject_hash(subject: str, key: bytes) -> str:
    """Return the keyed hash under which the ledger records an erased subject."""
    return keyed_hash(f"forgotten:{subject}", key)
