"""The bill of materials of a lock names each pin with its hashes, and is the same however often it is written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[3]


def write(lock: Path, file: Path) -> subprocess.CompletedProcess[str]:
    """Write the bill of a lock, as ``make sbom`` does."""
    command = [sys.executable, str(ROOT / ".ci" / "sbom.py"), str(lock), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-gateway.lock"])
def test_the_bill_has_every_pin_of_the_lock_with_every_hash_and_is_valid(tmp_path: Path, name: str) -> None:
    lock, files = ROOT / name, [tmp_path / "once.json", tmp_path / "again.json"]
    for file in files:
        process = write(lock, file)
        assert process.returncode == 0, process.stderr
    text = files[0].read_text(encoding="utf-8")
    assert files[1].read_text(encoding="utf-8") == text
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "airflow-mlops"
    components = {f"{part['name']}=={part['version']}": part for part in bill["components"]}
    pinned = re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?(==[^ ;]+)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(components) == {name + version for name, version in pinned}
    hashes = {entry["content"] for part in components.values() for entry in part["hashes"]}
    assert hashes == set(re.findall(r"sha256:([0-9a-f]{64})", lock.read_text(encoding="utf-8")))
    assert all(part["purl"].startswith("pkg:pypi/") for part in components.values())


@pytest.mark.parametrize("line", ["pandas==3.0.6", "pandas>=3 --hash=sha256:" + "0" * 64, "-e ."])
def test_a_line_that_says_not_which_file_is_installed_is_refused(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(f"{line}\n")
    process = write(lock, tmp_path / "bill.json")
    assert process.returncode == 1
    assert f"{lock} is no pin with hashes: {line!r}; run make lock" in process.stderr
    assert not (tmp_path / "bill.json").exists()
