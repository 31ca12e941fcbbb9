"""Files are replaced whole: a writer that fails leaves the file before it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.core.lake import replace_file


def test_a_file_is_written_whole_into_a_folder_that_was_missing(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with replace_file(target) as part:
        part.write_bytes(b"first")
        assert not target.exists()
    assert target.read_bytes() == b"first"


def test_a_writer_that_fails_leaves_the_file_before_it_and_nothing_else(tmp_path: Path) -> None:
    def write_half(target: Path) -> None:
        with replace_file(target) as part:
            part.write_bytes(b"sec")
            raise OSError("disk full")

    target = tmp_path / "file"
    target.write_bytes(b"first")
    with pytest.raises(OSError, match="disk full"):
        write_half(target)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"first"
