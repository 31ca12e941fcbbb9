"""The environment that fitted a model: Python, platform and every installed distribution.

Only the standard library is used, so that any interpreter that fits models can record its environment in this way.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import Distribution, distributions
from typing import Any, Required, TypedDict, cast

OSI = "License :: OSI Approved :: "
FIELDS = ("Name", "Version", "License-Expression", "License")
VERSION = re.compile(r"\d+(\.\d+)+")


class Package(TypedDict, total=False):
    """An installed distribution; without a licence if its metadata have none."""

    name: Required[str]
    version: Required[str]
    purl: Required[str]
    license: str
    license_expression: str


class Environment(TypedDict):
    """The environment that fitted a model. The same environment gives the same value, in every process."""

    python: str
    implementation: str
    system: str
    release: str
    machine: str
    packages: list[Package]


@lru_cache(maxsize=1)
def recorded_environment() -> Environment:
    """Return the environment of this interpreter; determined once in a process."""
    packages: dict[str, Package] = {}
    for distribution in distributions():
        package = package_of(distribution)
        if package is not None:
            packages.setdefault(package["name"], package)  # the first on the path is the one that is imported
    return Environment(
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        system=platform.system(),
        release=platform.release(),
        machine=platform.machine(),
        packages=[packages[name] for name in sorted(packages)],
    )


def package_of(distribution: Distribution) -> Package | None:
    """Return name, version and licence of a distribution; None if its metadata are missing."""
    stated = distribution.metadata  # read and parsed anew at each access
    # The backport of this module, which some libraries install over it, raises for a key that is not there.
    metadata = {key: stated[key] for key in FIELDS if key in stated}
    if not metadata.get("Name") or not metadata.get("Version"):
        return None
    name, version = canonical(metadata["Name"]), str(metadata["Version"])
    package = Package(name=name, version=version, purl=f"pkg:pypi/{name}@{version}")
    if metadata.get("License-Expression"):
        package["license_expression"] = metadata["License-Expression"]
        return package
    license_text = metadata.get("License") or ""
    classifiers = stated.get_all("Classifier") or ()
    classified = [text.removeprefix(OSI) for text in classifiers if text.startswith(OSI)]
    license_name = classified[0] if classified else license_text.strip()
    if license_name and len(license_name) <= 80 and "\n" not in license_name:
        package["license"] = license_name
    return package


def canonical(name: str) -> str:
    """Return the name of a distribution as package indexes compare it.

    >>> canonical("Typing_Extensions")
    'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of(environment: Environment, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return pinned requirements on those of ``names`` that the environment has.

    >>> requirements_of({"packages": [{"name": "numpy", "version": "2.4.6"}]}, ("numpy", "pandas"))
    ('numpy==2.4.6',)
    """
    versions: dict[str, Any] = {package["name"]: package["version"] for package in environment["packages"]}
    return tuple(f"{name}=={versions[name]}" for name in names if name in versions)


def parse_environment(values: Mapping[str, Any]) -> Environment:
    """Return the environment that a fit in another interpreter has reported: the versions it names, and no more.

    >>> parse_environment({"python": "3.9.1", "platform": "Linux", "numpy": "1.26.0"})["packages"]
    [{'name': 'numpy', 'version': '1.26.0', 'purl': 'pkg:pypi/numpy@1.26.0'}]
    """
    if "packages" in values:
        return cast(Environment, dict(values))
    versions = {
        canonical(name): str(version)
        for name, version in values.items()
        if VERSION.match(str(version)) and name != "python"
    }
    return Environment(
        python=str(values.get("python", "")),
        implementation=str(values.get("implementation", "Python")),
        system=str(values.get("platform", "")),
        release="",
        machine="",
        packages=[
            Package(name=name, version=version, purl=f"pkg:pypi/{name}@{version}")
            for name, version in sorted(versions.items())
        ],
    )
