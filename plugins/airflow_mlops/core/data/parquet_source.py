"""A source of Parquet files: one file for each partition."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.data.partition import partition_slug
from airflow_mlops.core.errors import SourceMissingError, SourceUnreadableError


class ParquetFiles:
    """Parquet files named by a template with ``{partition}`` in it.

    Parameters
    ----------
    template : str
        Path; ``{partition}`` becomes the partition's date, ``2013-03-10``.
    root : Path
        Folder that a relative template starts from.
    """

    def __init__(self, template: str, *, root: Path) -> None:
        self._template, self._root = template, root

    def path(self, partition: str) -> Path:
        """Return where the file of a partition is expected."""
        return self._root / self._template.replace("{partition}", partition_slug(partition))

    def read(self, partition: str) -> pa.Table:
        """Return the rows of a partition; see :meth:`Source.read`."""
        path = self.path(partition)
        try:
            with pq.ParquetFile(path) as file:
                return file.read()
        except FileNotFoundError:
            raise SourceMissingError(f"partition {partition}: {path} is not there yet") from None
        except (pa.ArrowException, OSError) as error:
            raise SourceUnreadableError(f"partition {partition}: {path} cannot be read: {error}") from error
