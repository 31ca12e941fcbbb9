"""An archive of a version with any byte changed is refused, or reads as it was written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ports.signing_keys import StaticKeys, new_private_key
from airflow_mlops.core.registry.version_archive import ArchiveError, read_archive, write_archive

KEYS = StaticKeys(new_private_key())
CONTENTS: dict[str, bytes | Path] = {
    "record.json": b'{"details": {}}',
    "evidence/report.json": b"{}",
    "version/model.skops": bytes(range(256)) * 4,
    "version/deep/MLmodel": b"flavors: {}",
}


def archive_bytes(contents: dict[str, bytes | Path] = CONTENTS) -> bytes:
    """Return an archive of a version as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "toy-1.zip"
        write_archive(file, contents, KEYS, model="toy", version="1", environment="staging")
        return file.read_bytes()


WHOLE = archive_bytes()


def read(content: bytes, folder: Path) -> dict[str, bytes]:
    """Return the files that are read from the bytes of an archive, by name."""
    file, into = folder / "toy-1.zip", folder / "read"
    file.write_bytes(content)
    manifest = read_archive(file, into, KEYS)
    assert (manifest.model, manifest.version, manifest.environment) == ("toy", "1", "staging")
    return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}


@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), max_size=3),
    cut=st.integers(0, len(WHOLE)) | st.just(len(WHOLE)),
)
def test_changed_bytes_are_refused_or_change_nothing_that_is_read(changes: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(WHOLE)
    for place, change in changes:
        content[place] ^= change
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = read(bytes(content[:cut]), Path(folder))
        except RegistryError:
            assert changes or cut < len(WHOLE)
        else:
            assert files == CONTENTS


def test_no_byte_of_a_file_can_change(tmp_path: Path) -> None:
    for number, place in enumerate(range(0, len(WHOLE), 3)):
        content = bytearray(WHOLE)
        content[place] ^= 0xFF
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            files = read(bytes(content), folder)
        except RegistryError:
            continue
        assert files == CONTENTS  # the byte was a date, or another that a reader does not need


def test_files_and_bytes_are_archived_alike(tmp_path: Path) -> None:
    file = tmp_path / "model.skops"
    file.write_bytes(bytes(range(256)) * 4)
    assert archive_bytes({**CONTENTS, "version/model.skops": file}) == WHOLE


def test_a_name_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="a name that no export gives"):
        archive_bytes({"../evil": b""})
