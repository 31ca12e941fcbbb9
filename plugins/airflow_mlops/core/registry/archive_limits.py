"""Limits on the memory that a model file may take, checked on its table of contents before it is read.

A model file is a zip archive. A few hundred kilobytes of it can unpack to as many megabytes: compressed
zeros, overlapping members, an archive in the archive, an array whose header declares more than its bytes. Files that
this package writes are not compressed at all, so they are far from the limits.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from airflow_mlops.core.errors import RegistryError

MAX_BYTES = 8 * 1024**3
MAX_MEMBERS = 1_000_000
MAX_GROWTH = 10
SMALL = 16 * 1024**2
"""Bytes that any archive may unpack to, however small it is."""


def check_archive(path: Path) -> None:
    """Raise RegistryError unless a model file unpacks to a size within the limits.

    Raises
    ------
    RegistryError
        If it is no archive, has more than a million members, unpacks to more than 8 GiB or to more than
        ten times its own size, or holds an array that is larger than its bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive, path.name, path.stat().st_size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise RegistryError(f"{path.name} is no model file: {type(error).__name__}: {error}") from error


def check_members(archive: zipfile.ZipFile, name: str, size: int) -> None:
    """Raise RegistryError unless an archive of ``size`` bytes, and the archives in it, are within the limits."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise RegistryError(f"{name} has {len(members):,} members; at most {MAX_MEMBERS:,} are read")
    if len({member.filename for member in members}) < len(members):
        raise RegistryError(f"{name} has two members of one name")
    unpacked = sum(member.file_size for member in members)
    if unpacked > min(MAX_BYTES, max(MAX_GROWTH * size, SMALL)):
        raise RegistryError(
            f"{name} has {size:,} bytes and would unpack to {unpacked:,}; it may unpack to {MAX_GROWTH} times "
            f"its size and to {MAX_BYTES:,} bytes at most. Nothing of it was read"
        )
    for member in members:
        if member.filename.endswith(".npy"):
            with archive.open(member) as file:
                check_array(file, f"{name}: {member.filename}", member.file_size)
        elif member.filename.endswith(".npz"):
            with zipfile.ZipFile(io.BytesIO(archive.read(member))) as inner:
                check_members(inner, f"{name}: {member.filename}", member.file_size)


def check_array(file: IO[bytes], name: str, size: int) -> None:
    """Raise RegistryError unless the header of a numpy array declares at most its ``size`` bytes."""
    try:
        major, _ = version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        if version not in ((1, 0), (2, 0)):
            raise RegistryError(f"{name} is an array in the format {version}; 1.0 and 2.0 are read")
        shape, _, dtype = read(file)
    except (ValueError, SyntaxError, TypeError) as error:
        raise RegistryError(f"{name} is no array: {error}") from error
    if dtype.hasobject:
        raise RegistryError(f"{name} is an array of objects, which only a pickle can hold; none is read")
    declared_size = math.prod(shape) * dtype.itemsize
    if declared_size > size:
        raise RegistryError(f"{name} says that it has {declared_size:,} bytes and has {size:,}")
