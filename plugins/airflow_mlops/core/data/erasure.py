"""Drop the rows of erased subjects at ingest: a source may still deliver them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_mlops.core.data.key_text import join_key_columns
from airflow_mlops.core.data.masking import keyed_hash, mask_key, refuse_other_key
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.declaration.key_columns import key_columns

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.workspace import Workspace

Mask = npt.NDArray[np.bool_]
ReadTexts = Callable[[pa.RecordBatch, str], pa.Array | None]
"""Returns the texts of a column of a batch, as many as rows; None if the batch lacks it."""


class Erasure:
    """Drops the rows of erased subjects from batches; ``rows`` counts them."""

    def __init__(self, workspace: Workspace, state: LoopState) -> None:
        self.rows = 0
        self._forgotten = frozenset(state.forgotten)
        self._column = subject_column(workspace)
        self._key = mask_key(workspace.secret, self._column) if self._forgotten else b""
        if self._forgotten:
            refuse_other_key(self._key, state.mask_key)

    def drop_forgotten(
        self, batches: Iterator[pa.RecordBatch], read: ReadTexts | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the batches without the rows of erased subjects.

        Parameters
        ----------
        batches : iterator of pyarrow.RecordBatch
            Rows as they arrive.
        read : callable, optional
            Reads the texts of a column as they would be stored without masks; subjects are compared with these, and
            with the texts that arrive.
        """
        readers = [arrived_texts] if read is None else [arrived_texts, read]
        for batch in batches:
            masks = [self._mask(batch, reader) for reader in readers] if self._forgotten else []
            mask = np.logical_or.reduce(masks) if masks else np.zeros(0, bool)
            self.rows += int(mask.sum())
            yield batch.filter(pa.array(~mask)) if mask.any() else batch

    def _mask(self, batch: pa.RecordBatch, read: ReadTexts) -> Mask:
        """Return where a batch has rows of erased subjects."""
        columns = [column for name in key_columns(self._column) if (column := read(batch, name)) is not None]
        if len(columns) < len(key_columns(self._column)):
            return np.zeros(batch.num_rows, bool)
        texts = (columns[0] if len(columns) == 1 else join_key_columns(columns)).dictionary_encode()
        is_forgotten = np.array(
            [text is not None and self._is_forgotten(text) for text in texts.dictionary.to_pylist()], bool
        )
        codes = texts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.asarray(np.append(is_forgotten, False)[codes], bool)

    def _is_forgotten(self, text: str) -> bool:
        return subject_hash(text, self._key) in self._forgotten


def arrived_texts(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """Return the texts of a column as it arrives under its own name; None if the batch lacks it."""
    return format_column(batch.column(name)) if name in batch.schema.names else None


def subject_column(workspace: Workspace) -> str:
    """Return the column that names the subject of a row: the contract's, or the key."""
    contract = workspace.contract
    return contract.subject if contract is not None and contract.subject else workspace.loop.data.key


def subject_hash(subject: str, key: bytes) -> str:
    """Return the keyed hash under which the ledger records an erased subject."""
    return keyed_hash(f"forgotten:{subject}", key)
