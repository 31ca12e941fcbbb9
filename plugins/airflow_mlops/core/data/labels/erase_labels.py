"""Erase the labels of a subject from every delivery that holds them."""

from __future__ import annotations

from collections.abc import Set

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.labels.take_labels import TABLE
from airflow_mlops.core.ledger.data_details import ErasedLabels
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace


def erase_labels(workspace: Workspace, state: LoopState, keys: Set[str]) -> dict[str, ErasedLabels]:
    """Rewrite the deliveries that label any of these keys without those labels; return the changes by tick.

    Parameters
    ----------
    keys : set of str
        Keys as in the snapshots: masked if the contract masks the key.

    Returns
    -------
    dict of str to ErasedLabels
        The new version of each delivery that was changed, by tick.
    """
    changed: dict[str, ErasedLabels] = {}
    erased_keys = pa.array(sorted(keys), pa.string())
    table = workspace.ports.table(TABLE)
    for tick, delivery in state.labels.items():
        if not delivery.rows:
            continue
        rows = table.read(tick, version=delivery.version)
        remaining = rows.filter(pc.invert(pc.is_in(rows["key"], value_set=erased_keys)))
        if remaining.num_rows < rows.num_rows:
            changed[tick] = ErasedLabels(
                version=table.write(tick, remaining),
                digest=content_digest(remaining),
                rows=remaining.num_rows,
                erased=delivery.erased + rows.num_rows - remaining.num_rows,
            )
    return changed
