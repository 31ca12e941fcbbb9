"""The lake: the folder of snapshots, predictions, quarantine, evidence and candidates, on disk or in S3."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.fault_point import external_write

_UNREACHABLE = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|curlCode"  # pyarrow
    r"|Generic S3 error"  # delta-rs
)
_DISK_ERRORS = frozenset((errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))


@dataclass(frozen=True)
class Lake:
    """A folder and the credentials to reach it; opened on first use.

    Parameters
    ----------
    uri : str
        Absolute path of a local folder, or ``s3://bucket/prefix``.
    s3 : mapping, optional
        For S3: ``key``, ``secret``, ``token``, ``region``, ``endpoint``; missing ones are taken from the environment.

    Raises
    ------
    DeclarationError
        If ``uri`` is neither an absolute path nor on S3.
    """

    uri: str
    s3: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def on_disk(cls, folder: str | Path) -> Lake:
        """Return the lake in a local folder."""
        return cls(str(Path(folder).absolute()))

    def __post_init__(self) -> None:
        if not self.uri.startswith(("s3://", "/")):
            raise DeclarationError(f"the lake is at {self.uri!r}; give an absolute path or s3://bucket/prefix")

    def __truediv__(self, name: str) -> Lake:
        return Lake(f"{self.uri.rstrip('/')}/{name}", self.s3)

    @property
    def is_local(self) -> bool:
        """Whether the lake is a folder on this machine."""
        return not self.uri.startswith("s3://")

    @property
    def path(self) -> Path:
        """The folder of a local lake."""
        assert self.is_local, self.uri
        return Path(self.uri)

    @property
    def location(self) -> str:
        """The folder as pyarrow's file system names it: a path, or ``bucket/prefix``."""
        return self.uri.removeprefix("s3://")

    def file_system(self) -> Any:
        """Return the pyarrow file system of the folder."""
        from pyarrow import fs

        if self.is_local:
            return fs.LocalFileSystem()
        options = {
            "access_key": self.s3.get("key"),
            "secret_key": self.s3.get("secret"),
            "region": self.s3.get("region"),
            "session_token": self.s3.get("token"),
            "endpoint_override": self.s3.get("endpoint"),
        }
        return fs.S3FileSystem(**{name: value for name, value in options.items() if value})

    def storage_options(self) -> dict[str, str]:
        """Return the storage options of delta-rs; empty for a local folder."""
        if self.is_local:
            return {}
        names = {
            "key": "AWS_ACCESS_KEY_ID",
            "secret": "AWS_SECRET_ACCESS_KEY",
            "token": "AWS_SESSION_TOKEN",
            "region": "AWS_REGION",
            "endpoint": "AWS_ENDPOINT_URL",
        }
        options = {names[name]: value for name, value in self.s3.items() if value}
        # An endpoint without TLS is declared on purpose (MinIO on loopback); delta-rs refuses it otherwise.
        if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
        return options


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to, and move that file to ``target`` afterwards: a reader sees all of it or none.

    If the block raises, ``target`` stays as it was. The folder of ``target`` is created if it is missing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two threads of two processes may write one target at once; each needs a file of its own.
    part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        with external_write("scratch.replace_file"):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def is_unreachable(error: BaseException) -> bool:
    """Return whether an error of pyarrow or delta-rs is about a store that does not answer, and not about a file."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _DISK_ERRORS
    return _UNREACHABLE.search(str(error)) is not None


class LakeFiles:
    """Read and write files of a lake in S3; names are relative to ``folder``."""

    def __init__(self, folder: Lake) -> None:
        self._folder = folder

    def put(self, name: str, content: bytes) -> None:
        """Store ``content`` under ``name``, whole or not at all."""
        path = f"{self._folder.location}/{name}"
        with external_write("lake.put"), self._folder.file_system().open_output_stream(path) as stream:
            stream.write(content)

    def get(self, name: str) -> bytes:
        """Return the content of the file ``name``.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        """
        with self._folder.file_system().open_input_stream(f"{self._folder.location}/{name}") as stream:
            return bytes(stream.read())

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below ``folder``, relative to it; empty without such a folder."""
        from pyarrow.fs import FileSelector, FileType

        base = f"{self._folder.location}/{folder}"
        selector = FileSelector(base, allow_not_found=True, recursive=True)
        infos = self._folder.file_system().get_file_info(selector)
        return sorted(str(info.path).removeprefix(f"{base}/") for info in infos if info.type == FileType.File)

    def holds(self, name: str) -> bool:
        """Return whether there is a file ``name``."""
        from pyarrow.fs import FileType

        info = self._folder.file_system().get_file_info(f"{self._folder.location}/{name}")
        return bool(info.type == FileType.File)


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold a file that all processes of this machine agree on; whoever comes second waits.

    Parameters
    ----------
    path : Path
        The file, made if there is none; its folder exists.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
