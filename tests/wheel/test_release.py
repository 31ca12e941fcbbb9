"""A release is the same whenever it is made, and its signature fails on any other file or key."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.core.ports.signing_keys import derive_public_key, new_private_key
from airflow_mlops.core.registry.model_file import file_digest

HOUSE = Path(__file__).parents[2]


def make_release(key: Path) -> subprocess.CompletedProcess[str]:
    """Make a release in a process of its own, which is no part of the make that runs this test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "release", f"KEY={key}"]
    return subprocess.run(command, cwd=HOUSE, env=environment, capture_output=True, text=True, check=False)


def verify(folder: Path, public: Path) -> int:
    """Verify a release as SECURITY.md says; return the exit code."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder / "release")]
    signature = ["--signature", str(folder / "release.sig"), "--public_key", str(public)]
    return subprocess.run([*command, *signature], capture_output=True, text=True, check=False).returncode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a release, its signature and the public key."""
    made = tmp_path_factory.mktemp("made")
    private = made / "key.pem"
    private.write_text(new_private_key())
    (made / "key.pub.pem").write_text(derive_public_key(private.read_text()))
    digests = []
    for _ in range(2):
        process = make_release(private)
        assert process.returncode == 0, process.stderr
        files = sorted((HOUSE / "build" / "release").iterdir())
        digests.append({file.name: file_digest(file) for file in files})
    assert digests[0] == digests[1]
    shutil.copytree(HOUSE / "build" / "release", made / "release")
    shutil.copy(HOUSE / "build" / "release.sig", made)
    return made


def test_it_has_wheel_source_and_bills_of_materials_and_verifies(folder: Path) -> None:
    kinds = sorted(file.name.partition("-0.")[0] for file in (folder / "release").iterdir())
    assert kinds == ["airflow_mlops", "airflow_mlops", "requirements-gateway.cdx.json", "requirements.cdx.json"]
    assert verify(folder, folder / "key.pub.pem") == 0


@pytest.mark.parametrize("change", ["a byte", "a file more", "a file less"])
def test_a_changed_release_does_not_verify(folder: Path, tmp_path: Path, change: str) -> None:
    changed = shutil.copytree(folder, tmp_path / "changed")
    wheel = next((changed / "release").glob("*.whl"))
    if change == "a byte":
        wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    elif change == "a file more":
        (changed / "release" / "more.whl").write_bytes(b"")
    else:
        wheel.unlink()
    assert verify(changed, folder / "key.pub.pem") == 1


def test_a_release_of_another_key_does_not_verify(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pub.pem"
    other.write_text(derive_public_key(new_private_key()))
    assert verify(folder, other) == 1


def test_without_a_key_nothing_is_made(tmp_path: Path) -> None:
    process = make_release(tmp_path / "missing.pem")
    assert process.returncode != 0
    assert "make release KEY=key.pem" in process.stderr
