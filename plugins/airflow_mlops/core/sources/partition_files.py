"""Find the files of a partition by a template, on a local disk or in an object store.

``in/{partition}.csv`` is one file, ``in/{partition}/*.csv`` and ``in/{partition}-*.csv`` are several in the order of
their names, and ``in/{partition}/`` is every file in a folder. Folders below it are columns, if they are declared, as
in ``in/{partition}/region=eu/``. Names that begin with a dot or an underscore, as
``_SUCCESS`` does, are not taken by a ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.declaration.path_template import fill_template
from airflow_mlops.core.errors import (
    MlopsError,
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.lake import is_unreachable
from airflow_mlops.core.sources.path_columns import path_values, require_declared_folders, undeclared_values


@dataclass(frozen=True)
class PartitionFile:
    """A file of a partition.

    ``name`` is its path as in the declaration, ``path`` the path on its file system, ``tag`` the entity tag of an
    object store, ``modified`` the time of its last change in nanoseconds, and ``values`` the columns in its path.
    """

    name: str
    path: str
    size: int
    tag: str | None = None
    modified: int | None = field(default=None, compare=False)
    values: Mapping[str, str | None] = field(default_factory=dict, compare=False)

    @property
    def identity(self) -> str:
        """A text that differs if the file was written since."""
        return f"{self.size} {self.tag or self.modified}"

    def origin(self) -> dict[str, Any]:
        """Return the file as JSON values."""
        return {"path": self.name, "size": self.size} | ({"etag": self.tag} if self.tag else {})


class PartitionFiles:
    """The files that a template names.

    Parameters
    ----------
    template : str
        Path relative to ``root``, absolute, or ``s3://bucket/key``; with the placeholders of ``fill_template``.
    root : Path
        Folder that a relative template starts from.
    filesystem : pyarrow.fs.FileSystem, optional
        File system of the files; the local disk by default.
    path_columns : sequence of str
        Columns whose values are in the paths, as in ``region=eu/``.
    schedule : PartitionSchedule, optional
        The ticks of the partitions; weekly in UTC by default.
    """

    def __init__(
        self,
        template: str,
        *,
        root: Path,
        filesystem: FileSystem | None = None,
        path_columns: Sequence[str] = (),
        schedule: PartitionSchedule | None = None,
    ) -> None:
        self._template, self.path_columns = template, tuple(path_columns)
        self._schedule = schedule or PartitionSchedule()
        self.filesystem = filesystem or LocalFileSystem()
        self.is_local = filesystem is None
        self._prefix = f"{root.absolute().as_posix()}/" if self.is_local and not Path(template).is_absolute() else ""

    def path(self, partition: str) -> Path:
        """Return where the file of a partition is expected on the local disk."""
        return Path(self._prefix + fill_template(self._template, partition, self._schedule))

    def find(self, partition: str) -> list[PartitionFile]:
        """Return the files of a partition, at least one, in the order of their names.

        Raises
        ------
        SourceMissingError
            If there is no file.
        SourceUnreadableError
            If a folder is where a file is declared, or access is denied.
        SourceUnreachableError
            If the object store does not answer.
        """
        filled = fill_template(self._template, partition, self._schedule)
        pattern = self._prefix + filled.removeprefix("s3://")
        try:
            infos = self._in_folders(pattern, filled, partition) if filled.endswith("/") else self._matching(pattern)
            if not infos and "*" in filled:
                self._in_folders(pattern.rpartition("/")[0] + "/", filled, partition)
            files = [self._file(info, partition) for info in sorted(infos, key=lambda info: str(info.path))]
        except (OSError, pa.ArrowException) as error:
            raise self.translate_error(error, partition, filled) from error
        if not files:
            raise SourceMissingError(f"partition {partition}: {filled} is not there yet")
        return files

    def warnings(self, files: Sequence[PartitionFile], partition: str) -> tuple[str, ...]:
        """Return a warning if a ``*`` stands for folders such as ``region=eu`` whose values are no column."""
        template = fill_template(self._template, partition, self._schedule).split("/")
        folders = {
            folder
            for file in files
            for declared, folder in zip(template, file.name.split("/")[:-1], strict=False)
            if "*" in declared
        }
        return undeclared_values(folders, self.path_columns)

    def _matching(self, pattern: str) -> list[FileInfo]:
        return list(_match(self.filesystem, pattern, FileType.File))

    def _in_folders(self, pattern: str, filled: str, partition: str) -> list[FileInfo]:
        """Return the files in the folders that match a pattern, and in the folders of declared columns below them.

        Raises
        ------
        SourceUnreadableError
            If files lie in other folders.
        """
        infos: list[FileInfo] = []
        for base in _match(self.filesystem, pattern.rstrip("/"), FileType.Directory):
            inside = [
                (info, info.path[len(base.path) + 1 :].split("/"))
                for info in self.filesystem.get_file_info(FileSelector(base.path, recursive=True))
                if info.type == FileType.File
            ]
            visible = [(info, parts) for info, parts in inside if not any(part[0] in "._" for part in parts)]
            folders = ["/".join(parts[:-1]) for _, parts in visible if len(parts) > 1]
            require_declared_folders(filled, folders, self.path_columns, f"partition {partition}")
            infos += [info for info, _ in visible]
        return infos

    def _file(self, info: FileInfo, partition: str) -> PartitionFile:
        name = self._name(info.path)
        return PartitionFile(
            name,
            info.path,
            info.size or 0,
            self._tag(info.path),
            getattr(info, "mtime_ns", None),
            path_values(name, self.path_columns, f"partition {partition}: {name}"),
        )

    def translate_error(self, error: Exception, partition: str, name: str) -> MlopsError:
        """Return an error of a file system as an error of this package, without the path of the root."""
        if isinstance(error, FileNotFoundError):
            return SourceMissingError(f"partition {partition}: {name} is not there yet")
        message = str(error).replace(self._prefix, "") if self._prefix else str(error)
        if isinstance(error, TimeoutError) or (not self.is_local and is_unreachable(error)):
            return SourceUnreachableError(f"partition {partition}: {name} cannot be reached: {message}")
        return SourceUnreadableError(f"partition {partition}: {name} cannot be read: {message}")

    def _name(self, path: str) -> str:
        return path.removeprefix(self._prefix) if self.is_local else f"s3://{path}"

    def _tag(self, path: str) -> str | None:
        if self.is_local:
            return None
        with self.filesystem.open_input_stream(path) as stream:
            tag = (stream.metadata() or {}).get("ETag")
        return tag.decode().strip('"') if tag else None


def _match(filesystem: FileSystem, pattern: str, kind: FileType) -> Iterator[FileInfo]:
    """Yield the files, or the folders, that match a pattern, going down the folders level by level."""
    if "*" not in pattern:
        yield from _existing(filesystem.get_file_info(pattern), kind)
        return
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if "*" in part)
    word = re.compile(".*".join(map(re.escape, parts[first].split("*"))), re.DOTALL)
    selector = FileSelector("/".join(parts[:first]) or ".", allow_not_found=True)
    for info in filesystem.get_file_info(selector):
        name = info.base_name
        if not word.fullmatch(name) or (name[0] in "._" and parts[first][0] == "*"):
            continue
        if first < len(parts) - 1:
            if info.type == FileType.Directory:
                yield from _match(filesystem, "/".join([info.path, *parts[first + 1 :]]), kind)
        elif info.type == kind:
            yield info


def _existing(info: FileInfo, kind: FileType) -> Iterator[FileInfo]:
    """Yield a file or folder if it exists; raise OSError if the other is there, or a special file."""
    if info.type == FileType.Unknown:
        raise OSError("it is not a regular file")  # reading a named pipe would wait for ever
    if info.type == FileType.Directory and kind == FileType.File:
        raise IsADirectoryError("it is a folder; end the template with / to take the files in it")
    if info.type == FileType.File and kind == FileType.Directory:
        raise NotADirectoryError("it is a file; end the template without / to take it")
    if info.type == kind:
        yield info


def are_unchanged(files: Sequence[PartitionFile], known: Mapping[str, Any] | None) -> bool:
    """Return whether the entity tags show that files are the same as in a known origin.

    Files without a tag, as on a local disk, count as changed.
    """
    entries = (known or {}).get("files", [])
    if len(entries) != len(files) or not all(file.tag for file in files):
        return False
    return all(entry.items() >= file.origin().items() for file, entry in zip(files, entries, strict=True))


def columns_error(name: str, first: str, differences: Sequence[str]) -> PartitionRefusedError:
    """Return the error for a file of a partition whose columns differ from those of the first file.

    Parameters
    ----------
    differences : sequence of str
        One text for each column that differs; empty if only the number of equal names differs. The first ten are
        listed.
    """
    texts = list(differences) or ["a column occurs another number of times"]
    listed = "; ".join(texts[:10]) + (f"; and {len(texts) - 10} more" if len(texts) > 10 else "")
    return PartitionRefusedError(
        f"{name} has other columns than {first}: {listed}; the files of a partition must have the same columns"
    )
