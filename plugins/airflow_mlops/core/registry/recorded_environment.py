"""The environment that fitted a model: Python, platform and every installed distribution.

Only the standard library is used, so that another interpreter that fits models can say the same of itself.
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
    """An installed distribution; the licence is left out where the distribution does not say it."""

    name: Required[str]
    version: Required[str]
    purl: Required[str]
    license: str
    license_expression: str


class Environment(TypedDict):
    """What a model was fitted in. The same environment gives the same value, in every process."""

    python: str
    implementation: str
    system: str
    release: str
    machine: str
    packages: list[Package]


@lru_cache(maxsize=1)
def recorded_environment() -> Environment:
    """Return the environment of this interpreter; looked at once in a process."""
    found: dict[str, Package] = {}
    for distribution in distributions():
        package = package_of(distribution)
        if package is not None:
            found.setdefault(package["name"], package)  # the first on the path is the one that is imported
    return Environment(
        python=platform.python_version(), implementation=platform.python_implementation(), system=platform.system(),
        release=platform.release(), machine=platform.machine(),
        packages=[found[name] for name in sorted(found)],
    )  # fmt: skip


def package_of(distribution: Distribution) -> Package | None:
    """Return what is known of a distribution; None if what is installed has lost its metadata."""
    # The backport of this module, which some libraries install over it, raises for a key that is not there.
    metadata = {key: distribution.metadata[key] for key in FIELDS if key in distribution.metadata}
    if not metadata.get("Name") or not metadata.get("Version"):
        return None
    name, version = canonical(metadata["Name"]), str(metadata["Version"])
    package = Package(name=name, version=version, purl=f"pkg:pypi/{name}@{version}")
    if metadata.get("License-Expression"):
        package["license_expression"] = metadata["License-Expression"]
        return package
    said = metadata.get("License") or ""
    classifiers = distribution.metadata.get_all("Classifier") or ()
    by_class = [text.removeprefix(OSI) for text in classifiers if text.startswith(OSI)]
    known = by_class[0] if by_class else said.strip()
    if known and len(known) <= 80 and "\n" not in known:
        package["license"] = known
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


def environment_said(said: Mapping[str, Any]) -> Environment:
    """Return the environment that a fit in another interpreter says it ran in: the versions it names, and no more.

    >>> environment_said({"python": "3.9.1", "platform": "Linux", "numpy": "1.26.0"})["packages"]
    [{'name': 'numpy', 'version': '1.26.0', 'purl': 'pkg:pypi/numpy@1.26.0'}]
    """
    if "packages" in said:
        return cast(Environment, dict(said))
    named = {canonical(name): str(of) for name, of in said.items() if VERSION.match(str(of)) and name != "python"}
    return Environment(
        python=str(said.get("python", "")), implementation=str(said.get("implementation", "Python")),
        system=str(said.get("platform", "")), release="", machine="",
        packages=[Package(name=name, version=of, purl=f"pkg:pypi/{name}@{of}") for name, of in sorted(named.items())],
    )  # fmt: skip
