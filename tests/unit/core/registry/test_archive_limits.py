"""Archives that would unpack beyond the limits are refused by their table of contents, before a byte is read."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import skops.io
from sklearn.linear_model import LinearRegression

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.registry.archive_limits import check_archive
from airflow_mlops.core.registry.model_file import file_digest, load_model, save_model


def archive(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def header_of(shape: tuple[int, ...]) -> bytes:
    """Return the header of an array in numpy's format with a shape, and no data."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_what_this_package_writes_is_far_from_the_limits(tmp_path: Path) -> None:
    save_model(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), tmp_path / "model.skops")
    check_archive(tmp_path / "model.skops")


def test_a_small_file_that_unpacks_to_much_is_refused_without_using_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "model.skops"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as zipped,
        zipped.open("1.npy", "w", force_zip64=True) as member,
    ):
        member.write(header_of((300 * 1024**2 // 8,)))
        for _ in range(300):
            member.write(b"\0" * 1024**2)
    assert bomb.stat().st_size < 400_000
    tracemalloc.start()
    with pytest.raises(RegistryError, match=r"model\.skops has [\d,]+ bytes and would unpack to 314,"):
        load_model(bomb, file_digest(bomb))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_an_archive_in_the_archive_is_measured_too(tmp_path: Path) -> None:
    inner = archive(tmp_path / "in", {"data.npy": b"\0" * 40_000_000}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(RegistryError, match=r"2\.npz has [\d,]+ bytes and would unpack to 40,000,000"):
        check_archive(archive(tmp_path / "model.skops", {"2.npz": inner.read_bytes()}))


def test_a_sparse_matrix_as_scipy_writes_it_passes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    scipy.sparse.save_npz(stream, scipy.sparse.random(200, 200, 0.1, format="csr", random_state=0))
    check_archive(archive(tmp_path / "model.skops", {"1.npz": stream.getvalue()}))


def test_an_array_that_says_it_is_larger_than_its_bytes_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.skops", {"1.npy": header_of((10**9,))})
    with pytest.raises(RegistryError, match=r"1\.npy says that it has 8,000,000,000 bytes and has 128"):
        check_archive(path)


def test_an_array_of_objects_is_refused_since_only_a_pickle_holds_one(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(RegistryError, match="only a pickle can hold"):
        check_archive(archive(tmp_path / "model.skops", {"1.npy": stream.getvalue()}))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("schema.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            zipped.writestr("schema.json", "[]")
    with pytest.raises(RegistryError, match="two members of one name"):
        check_archive(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80\4\x95 a pickle", b"\0" * 500], ids=range(4))
def test_what_is_no_archive_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(content)
    with pytest.raises(RegistryError, match=r"model\.skops is no model file"):
        load_model(path, file_digest(path))


def test_an_array_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"1\.npy is no array"):
        check_archive(archive(tmp_path / "model.skops", {"1.npy": b"NUMPY of sorts"}))


def test_a_compressed_file_within_the_limits_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), path, compression=zipfile.ZIP_DEFLATED)
    assert load_model(path, file_digest(path)).predict([[2.0]]) == pytest.approx([4.0])
