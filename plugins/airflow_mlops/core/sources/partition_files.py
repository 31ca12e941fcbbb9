"""Which files a template names for a partition, on a disk or in an object store.

``in/{partition}.csv`` is one file, ``in/{partition}/*.csv`` and ``in/{partition}-*.csv`` are several in the order of
their names, and ``in/{partition}/`` is every file in a folder. Names that begin with a dot or an underscore, as
``_SUCCESS`` does, are not taken by a ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from airflow_mlops.core.declaration.partition_key import fill_template
from airflow_mlops.core.errors import MlopsError, SourceMissingError, SourceUnreachableError, SourceUnreadableError

_PASSING = re.compile(r"NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|curlCode")
"""What an object store says where the same request may succeed later."""


@dataclass(frozen=True)
class FoundFile:
    """A file of a partition.

    ``name`` is what a person calls it, as in the declaration; ``path`` where it stands on its file system;
    ``tag`` the entity tag of an object store.
    """

    name: str
    path: str
    size: int
    tag: str | None = None

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
        Where the files are; the local disk if not given.
    """

    def __init__(self, template: str, *, root: Path, filesystem: FileSystem | None = None) -> None:
        self._template = template
        self.filesystem = filesystem or LocalFileSystem()
        self.is_local = filesystem is None
        self._before = f"{root.absolute().as_posix()}/" if self.is_local and not Path(template).is_absolute() else ""

    def path(self, partition: str) -> Path:
        """Return where the file of a partition is expected on the local disk."""
        return Path(self._before + fill_template(self._template, partition))

    def find(self, partition: str) -> list[FoundFile]:
        """Return the files of a partition in the order of their names; at least one.

        Raises
        ------
        SourceMissingError
            If there is none.
        SourceUnreadableError
            If a folder stands where a file is declared, or the place may not be looked at.
        SourceUnreachableError
            If the object store does not answer.
        """
        filled = fill_template(self._template, partition)
        pattern = self._before + filled.removeprefix("s3://") + ("*" if filled.endswith("/") else "")
        try:
            infos = sorted(_matching(self.filesystem, pattern), key=lambda info: str(info.path))
            found = [
                FoundFile(self._name(info.path), info.path, info.size or 0, self._tag(info.path)) for info in infos
            ]
        except (OSError, pa.ArrowException) as error:
            raise self.fault(error, partition, filled) from error
        if not found:
            raise SourceMissingError(f"partition {partition}: {filled} is not there yet")
        return found

    def fault(self, error: Exception, partition: str, name: str) -> MlopsError:
        """Return what a library said about a file as an error of this package, without the root's path."""
        if isinstance(error, FileNotFoundError):
            return SourceMissingError(f"partition {partition}: {name} is not there yet")
        said = str(error).replace(self._before, "") if self._before else str(error)
        if isinstance(error, TimeoutError) or (not self.is_local and _PASSING.search(said)):
            return SourceUnreachableError(f"partition {partition}: {name} cannot be reached: {said}")
        return SourceUnreadableError(f"partition {partition}: {name} cannot be read: {said}")

    def _name(self, path: str) -> str:
        return path.removeprefix(self._before) if self.is_local else f"s3://{path}"

    def _tag(self, path: str) -> str | None:
        if self.is_local:
            return None
        with self.filesystem.open_input_stream(path) as stream:
            tag = (stream.metadata() or {}).get("ETag")
        return tag.decode().strip('"') if tag else None


def _matching(filesystem: FileSystem, pattern: str) -> Iterator[FileInfo]:
    """Yield the files that ``pattern`` names, one level of folders after another."""
    if "*" not in pattern:
        info = filesystem.get_file_info(pattern)
        if info.type == FileType.Directory:
            raise IsADirectoryError("it is a folder; end the template with / to take the files in it")
        if info.type == FileType.Unknown:
            raise OSError("it is no ordinary file")  # a named pipe would be waited for without end
        if info.type == FileType.File:
            yield info
        return
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if "*" in part)
    word = re.compile(".*".join(map(re.escape, parts[first].split("*"))), re.DOTALL)
    selector = FileSelector("/".join(parts[:first]) or ".", allow_not_found=True)
    for info in filesystem.get_file_info(selector):
        name = info.base_name
        if not word.fullmatch(name) or (name[0] in "._" and parts[first][0] == "*"):
            continue
        if first == len(parts) - 1:
            if info.type == FileType.File:
                yield info
        elif info.type == FileType.Directory:
            yield from _matching(filesystem, "/".join([info.path, *parts[first + 1 :]]))


def untouched(files: Sequence[FoundFile], known: Mapping[str, Any] | None) -> bool:
    """Whether an object store says that ``files`` are those of a ``known`` origin, byte by byte."""
    before = (known or {}).get("files", [])
    if len(before) != len(files) or not all(file.tag for file in files):
        return False
    return all(one.items() >= file.origin().items() for file, one in zip(files, before, strict=True))
