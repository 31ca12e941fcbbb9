"""Write the bill of materials of a requirement file, in CycloneDX 1.6: ``python .ci/sbom.py LOCK FILE``.

Every line of the lock is a component, with each hash that an installer takes for it. The same lock gives the same file:
no time, and a serial number made of the content. It asks nobody for anything.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).parents[1]
PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)(\[[a-z0-9,-]+\])?==(?P<version>[^ ;]+)( ; (?P<marker>[^\\]*[^\\ ]))?(?P<rest>.*)"
)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """A line of a lock: a distribution, where it is installed if not everywhere, and the hashes of its files."""

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]


def pins_of(lock: str) -> Iterator[Pin]:
    """Yield the pins of a hashed requirement file.

    Raises
    ------
    ValueError
        For a line that is none, or has no hash.
    """
    for line in lock.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = PIN.fullmatch(line.strip())
        hashes = tuple(HASH.findall(line))
        if match is None or not hashes:
            raise ValueError(f"is no pin with hashes: {line[:200]!r}; run make lock")
        yield Pin(match["name"], match["version"], match["marker"], hashes)


def to_component(pin: Pin) -> Component:
    """Return a pin as a component; it has a hash for each file that may be installed for it."""
    purl = PackageURL("pypi", None, pin.name, pin.version)
    return Component(
        type=ComponentType.LIBRARY,
        name=pin.name,
        version=pin.version,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in pin.hashes],
        properties=[] if pin.marker is None else [Property(name="airflow-mlops:marker", value=pin.marker)],
    )


def bill_of_materials(lock: str) -> dict[str, Any]:
    """Return the CycloneDX document of a lock of this package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bom = Bom(serial_number=uuid.UUID(int=0))
    package = bom.metadata.component = Component(
        type=ComponentType.APPLICATION, name=project["name"], version=project["version"], bom_ref=project["name"]
    )
    bom.components.update(to_component(pin) for pin in pins_of(lock))
    bom.register_dependency(package, bom.components)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"], document["serialNumber"]
    document["dependencies"] = [dependency for dependency in document["dependencies"] if dependency.get("dependsOn")]
    return {**document, "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True)).urn}


def main(lock: str, file: str) -> None:
    """Write the bill of materials of a lock into a file."""
    try:
        document = bill_of_materials(Path(lock).read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"sbom: {lock} {error}") from None
    Path(file).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(document['components'])} components of {lock} in {file}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
