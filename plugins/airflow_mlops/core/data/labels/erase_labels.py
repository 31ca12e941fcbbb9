"""Erase the labels of a subject who is forgotten from every delivery that holds them."""

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
    """Write the deliveries that label any of these keys without them; return what has changed, by tick.

    Parameters
    ----------
    keys : set of str
        As the rows of snapshots have them: masked where the contract says so.

    Returns
    -------
    dict of str to ErasedLabels
        The new version of each delivery that was changed, by tick.
    """
    changed: dict[str, ErasedLabels] = {}
    gone = pa.array(sorted(keys), pa.string())
    table = workspace.ports.table(TABLE)
    for tick, known in state.labels.items():
        if not known.rows:
            continue
        rows = table.read(tick, version=known.version)
        rest = rows.filter(pc.invert(pc.is_in(rows["key"], value_set=gone)))
        if rest.num_rows < rows.num_rows:
            changed[tick] = ErasedLabels(
                version=table.write(tick, rest),
                digest=content_digest(rest),
                rows=rest.num_rows,
                erased=known.erased + rows.num_rows - rest.num_rows,
            )
    return changed
