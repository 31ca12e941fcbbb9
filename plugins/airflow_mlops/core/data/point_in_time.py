"""The past as it was known when a partition was published: what features may look back on.

A correction that came later does not reach back: a row is given the same past in training as it was given
when it was scored, however often older partitions were taken again in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property

import pandas as pd

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.governance.record import Record
from airflow_mlops.core.workspace import Workspace

KEPT_READS = 32

Reads = OrderedDict[tuple[str, int, tuple[str, ...]], pd.DataFrame]


class History:
    """The published rows of partitions strictly before one, in the versions that were current when it was published.

    Parameters
    ----------
    workspace : Workspace
        Where the rows are kept.
    partition : str
        The partition whose past this is.
    version : int, optional
        Version of the partition's snapshot; for one that is not published, the past is what is published now.
    reads : OrderedDict, optional
        What was read before; shared by the histories of several partitions.
    """

    def __init__(
        self, workspace: Workspace, partition: str, version: int | None = None, *, reads: Reads | None = None
    ) -> None:
        self._workspace, self._partition, self._version = workspace, partition, version
        self._reads: Reads = OrderedDict() if reads is None else reads

    @property
    def partitions(self) -> list[str]:
        """Keys of the partitions of the past, oldest first."""
        return sorted(self._known)

    def rows(self, partitions: int | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return rows of the past, oldest partition first and by key within it, the label included.

        Parameters
        ----------
        partitions : int, optional
            How many of the newest partitions; all if not given.
        columns : sequence of str, optional
            Which columns; all but those that the contract hides if not given. Read only what you need.

        Returns
        -------
        DataFrame
            Without any row, and with those columns that were asked for by name, where there is no past.

        Raises
        ------
        TrainingError
            If a column is asked for that the contract hides from models.
        """
        if partitions is not None and partitions < 1:
            raise TrainingError(f"history.rows(partitions={partitions}): ask for at least 1")
        contract = self._workspace.contract
        data = self._workspace.loop.data
        hidden = (contract.hidden if contract else frozenset()) - {data.key, data.time, data.label}
        for name in columns or ():
            if name in hidden:
                raise TrainingError(f"history.rows: {name!r} is hidden from models by the contract (feature: false)")
        keys = self.partitions if partitions is None else self.partitions[-partitions:]
        parts = [self._read(key, tuple(columns or ()), hidden) for key in keys]
        if not parts:
            return pd.DataFrame(columns=list(columns or ()))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def _known(self) -> dict[str, int]:
        return known_at(self._workspace.ledger.records(), self._partition, self._version)

    def _read(self, key: str, columns: tuple[str, ...], hidden: frozenset[str]) -> pd.DataFrame:
        asked = (key, self._known[key], columns)
        if asked in self._reads:
            self._reads.move_to_end(asked)
            return self._reads[asked]
        order = self._workspace.loop.data.key
        wanted = [*columns, *({order} - set(columns))] if columns else None
        table = self._workspace.snapshots.read(key, version=self._known[key], columns=wanted).sort_by(order)
        names = list(columns) or [name for name in table.column_names if name not in hidden]
        frame: pd.DataFrame = table.select(names).to_pandas()
        self._reads[asked] = frame
        while len(self._reads) > KEPT_READS:
            self._reads.popitem(last=False)
        return frame


def known_at(records: Iterable[Record], partition: str, version: int | None) -> dict[str, int]:
    """Return the version of each earlier partition that was current when a version of a partition was published."""
    published = [record for record in records if record.kind == "snapshot_published"]
    own = [
        record.sequence
        for record in published
        if record.partition == partition and record.details["version"] == version
    ]
    until = own[-1] if own else None
    return {
        str(record.partition): int(record.details["version"])
        for record in published
        if str(record.partition) < partition and (until is None or record.sequence < until)
    }
