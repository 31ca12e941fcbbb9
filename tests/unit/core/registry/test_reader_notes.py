"""The note that MLflow leaves in a folder is no change of the version; the same name in any other form is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.ledger.training_details import Signature
from airflow_mlops.core.ports.signing_keys import StaticKeys, new_private_key
from airflow_mlops.core.registry.reader_notes import READER_NOTE, reader_notes
from airflow_mlops.core.registry.sign_folder import SignatureError, read_signature, sign_folder, verify_folder

FROZEN = Path(__file__).parent / "frozen"
KEYS = StaticKeys(new_private_key())
NOTES = [
    b"model_name: toy\nmodel_version: '1'\n",
    b"model_name: toy\nmodel_version: 1\n",
    b"model_name: '7'\nmodel_version: '12'\n",
    b"",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_folder = tmp_path / "model"
    model_folder.mkdir()
    (model_folder / "model.skops").write_bytes(b"\0" * 1000)
    return model_folder


@pytest.mark.parametrize("note", NOTES)
def test_a_note_of_mlflow_leaves_the_version_what_it_was(folder: Path, note: bytes) -> None:
    signature = sign_folder(folder, KEYS)
    (folder / READER_NOTE).write_bytes(note)
    verify_folder(folder, signature, KEYS)
    assert read_signature(folder, KEYS) == signature


@pytest.mark.parametrize(
    "content",
    [
        b"model_name: toy\nmodel_version: '1'\nloader_module: evil\n",
        b"import os\n",
        b"model_name: !!python/object:os.system\nmodel_version: '1'\n",
        b"model_name: toy\nmodel_version: '1'\n" + b" " * 300,
        b"model_name: " + b"a" * 64 + b"\nmodel_version: '1'\n",
        b"\0",
    ],
)
def test_the_name_alone_hides_no_content(folder: Path, content: bytes) -> None:
    signature = sign_folder(folder, KEYS)
    (folder / READER_NOTE).write_bytes(content)
    with pytest.raises(SignatureError, match=f"{READER_NOTE} was added"):
        verify_folder(folder, signature, KEYS)


def test_a_folder_or_a_link_of_that_name_is_refused(folder: Path, tmp_path: Path) -> None:
    signature = sign_folder(folder, KEYS)
    (folder / READER_NOTE).mkdir()
    (folder / READER_NOTE / "evil.py").write_text("x")
    with pytest.raises(SignatureError, match=r"evil\.py was added"):
        verify_folder(folder, signature, KEYS)
    shutil.rmtree(folder / READER_NOTE)
    (tmp_path / "note").write_bytes(NOTES[0])
    (folder / READER_NOTE).symlink_to(tmp_path / "note")
    with pytest.raises(SignatureError, match="symlink"):
        verify_folder(folder, signature, KEYS)


def test_a_note_below_the_top_is_refused_and_beside_a_note_every_other_file(folder: Path) -> None:
    signature = sign_folder(folder, KEYS)
    (folder / READER_NOTE).write_bytes(NOTES[0])
    (folder / "sub").mkdir()
    (folder / "sub" / READER_NOTE).write_bytes(NOTES[0])
    with pytest.raises(SignatureError, match="was added"):
        verify_folder(folder, signature, KEYS)
    shutil.rmtree(folder / "sub")
    (folder / "model.skops").write_bytes(b"\1" * 1000)
    with pytest.raises(SignatureError, match=r"model.skops was changed after it was signed"):
        verify_folder(folder, signature, KEYS)


@given(st.binary(max_size=80) | st.from_regex(rb"model_name: .{0,40}\nmodel_version: .{0,20}\n", fullmatch=True))
def test_a_note_that_is_taken_holds_a_name_and_a_number_and_nothing_else(content: bytes) -> None:
    with TemporaryDirectory() as scratch:
        (Path(scratch) / READER_NOTE).write_bytes(content)
        if reader_notes(Path(scratch)) and content:
            words = content.decode().replace("'", "").split()
            assert words[0::2] == ["model_name:", "model_version:"]
            assert words[1].replace("_", "a").replace("-", "a").isalnum()
            assert words[3].isdecimal()


@pytest.mark.parametrize("note", [None, *NOTES])
def test_a_version_that_was_registered_before_versions_had_an_interface_is_still_the_signed_one(
    tmp_path: Path, note: bytes | None
) -> None:
    record = json.loads((FROZEN / "record.json").read_text())
    keys = StaticKeys(None, ((FROZEN / "trusted.pem").read_text(),))
    copy = tmp_path / "version"
    shutil.copytree(FROZEN / "version", copy)
    if note is not None:
        (copy / READER_NOTE).write_bytes(note)
    verify_folder(copy, Signature(record["digest"], record["key"]), keys)
    assert {path.name for path in FROZEN.joinpath("version").iterdir()} == {
        "MLmodel",
        "environment.json",
        "model.sig",
        "model.skops",
        "python_env.yaml",
        "requirements.txt",
    }
