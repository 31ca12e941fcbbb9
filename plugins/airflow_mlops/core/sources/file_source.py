"""The base of the sources whose rows are in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyarrow.fs import FileSystem

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.sources.partition_files import PartitionFiles


class FileSource:
    """Files named by a template; see :class:`airflow_mlops.core.sources.partition_files.PartitionFiles`.

    Parameters
    ----------
    template : str
        Path with ``{partition}`` or another placeholder in it; without one, of a table of all partitions.
    root : Path
        Folder that a relative template starts from.
    filesystem : pyarrow.fs.FileSystem, optional
        File system of the files; the local disk by default.
    limits : Limits, optional
        How much a partition may hold.
    path_columns : sequence of str
        Columns whose values are in the paths of the files; they arrive as text that the contract reads.
    schedule : PartitionSchedule, optional
        The ticks of the partitions; weekly in UTC by default.
    """

    def __init__(
        self,
        template: str,
        *,
        root: Path,
        filesystem: FileSystem | None = None,
        limits: Limits | None = None,
        path_columns: Sequence[str] = (),
        schedule: PartitionSchedule | None = None,
    ) -> None:
        self._files = PartitionFiles(
            template, root=root, filesystem=filesystem, path_columns=path_columns, schedule=schedule
        )
        self._limits = limits or Limits()

    def path(self, partition: str) -> Path:
        """Return where the file of a partition is expected on the local disk."""
        return self._files.path(partition)
