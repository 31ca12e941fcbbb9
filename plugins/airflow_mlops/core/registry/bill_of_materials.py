"""The bill of materials of a model, in CycloneDX JSON: the model and every package of the environment that fitted it.

The same environment and model give the same text: no time, and a serial number made of the content.
"""

from __future__ import annotations

import json
import uuid
from functools import lru_cache
from typing import Any

from airflow_mlops.core.registry.recorded_environment import Environment, Package

SPEC_VERSION = "1.6"


def bill_of_materials(environment: Environment, *, model: str, operation: str, digest: str) -> dict[str, Any]:
    """Return a CycloneDX 1.6 document.

    Parameters
    ----------
    environment : Environment
        Environment that fitted the model.
    model, operation : str
        Name of the model, and the request and candidate that it was made from.
    digest : str
        SHA-256 of the model file.
    """
    document: dict[str, Any] = json.loads(_document_of_environment(json.dumps(environment, sort_keys=True)))
    document["metadata"]["component"].update(
        {"name": model, "version": operation, "hashes": [{"alg": "SHA-256", "content": digest}]}
    )
    content = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": content.urn}


@lru_cache(maxsize=2)
def _document_of_environment(environment_json: str) -> str:
    """Return the document of an environment, as JSON, without the fields of a model.

    Cached, because hundreds of packages take the library longer than a small fit, and a process has one environment or
    two.
    """
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    environment: Environment = json.loads(environment_json)
    bom = Bom(serial_number=uuid.UUID(int=0))
    component = bom.metadata.component = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name="any",
        version="any",
        bom_ref="model",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content="0" * 64)],
    )
    system = f"{environment['system']} {environment['machine']}".strip() or "unknown"
    bom.components.update(
        [
            Component(
                type=ComponentType.PLATFORM,
                name=environment["implementation"],
                version=environment["python"] or None,
                bom_ref="python",
            ),
            Component(
                type=ComponentType.OPERATING_SYSTEM,
                name=system,
                version=environment["release"] or None,
                bom_ref="system",
            ),
            *(to_component(package) for package in environment["packages"]),
        ]
    )
    bom.register_dependency(component, bom.components)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"], document["serialNumber"]
    document["dependencies"] = [dependency for dependency in document["dependencies"] if dependency.get("dependsOn")]
    return json.dumps(document)


def to_component(package: Package) -> Any:
    """Return a distribution as a CycloneDX component."""
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from packageurl import PackageURL

    licenses: list[Any] = []
    if "license_expression" in package:
        licenses = [LicenseExpression(package["license_expression"])]
    elif "license" in package:
        licenses = [DisjunctiveLicense(name=package["license"])]
    return Component(
        type=ComponentType.LIBRARY,
        name=package["name"],
        version=package["version"],
        bom_ref=package["purl"],
        purl=PackageURL("pypi", None, package["name"], package["version"]),
        licenses=licenses,
    )
