"""The lake: the folder of snapshots, predictions, quarantine, evidence and candidates, on disk or in S3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import DeclarationError


@dataclass(frozen=True)
class Lake:
    """A folder and how to reach it. Nothing is opened before it is used.

    Parameters
    ----------
    uri : str
        Absolute path of a local folder, or ``s3://bucket/prefix``.
    s3 : mapping, optional
        For S3: ``key``, ``secret``, ``token``, ``region``, ``endpoint``; what is missing is left to the environment.
    """

    uri: str
    s3: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def on_disk(cls, folder: str | Path) -> Lake:
        """Return the lake in a local folder."""
        return cls(str(Path(folder).absolute()))

    def __post_init__(self) -> None:
        if not self.uri.startswith(("s3://", "/")):
            raise DeclarationError(f"the lake is at {self.uri!r}; it must be an absolute path or s3://bucket/prefix")

    def __truediv__(self, name: str) -> Lake:
        return Lake(f"{self.uri.rstrip('/')}/{name}", self.s3)

    @property
    def is_local(self) -> bool:
        """Whether the lake is a folder of this machine."""
        return not self.uri.startswith("s3://")

    @property
    def path(self) -> Path:
        """The folder of a local lake."""
        assert self.is_local, self.uri
        return Path(self.uri)

    @property
    def location(self) -> str:
        """The folder as its file system names it: a path, or ``bucket/prefix``."""
        return self.uri.removeprefix("s3://")

    def file_system(self) -> Any:
        """Return the pyarrow file system that the folder is on."""
        from pyarrow import fs

        if self.is_local:
            return fs.LocalFileSystem()
        asked = {
            "access_key": self.s3.get("key"),
            "secret_key": self.s3.get("secret"),
            "region": self.s3.get("region"),
            "session_token": self.s3.get("token"),
            "endpoint_override": self.s3.get("endpoint"),
        }
        return fs.S3FileSystem(**{name: value for name, value in asked.items() if value})

    def storage_options(self) -> dict[str, str]:
        """Return what delta-rs needs to reach the folder; empty for a local one."""
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
        if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
        return options


class LakeFiles:
    """Files of a lake in S3, brought to this machine and taken there; names are relative to ``folder``."""

    def __init__(self, folder: Lake) -> None:
        self._folder = folder

    def put(self, name: str, content: bytes) -> None:
        """Store ``content`` under ``name``, whole or not at all."""
        with self._folder.file_system().open_output_stream(f"{self._folder.location}/{name}") as stream:
            stream.write(content)

    def get(self, name: str) -> bytes:
        """Return what is stored under ``name``.

        Raises
        ------
        FileNotFoundError
            If nothing is.
        """
        with self._folder.file_system().open_input_stream(f"{self._folder.location}/{name}") as stream:
            return bytes(stream.read())

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below ``folder``, relative to it; none if there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        base = f"{self._folder.location}/{folder}"
        selector = FileSelector(base, allow_not_found=True, recursive=True)
        found = self._folder.file_system().get_file_info(selector)
        return sorted(str(info.path).removeprefix(f"{base}/") for info in found if info.type == FileType.File)

    def holds(self, name: str) -> bool:
        """Return whether something is stored under ``name``."""
        from pyarrow.fs import FileType

        info = self._folder.file_system().get_file_info(f"{self._folder.location}/{name}")
        return bool(info.type == FileType.File)
