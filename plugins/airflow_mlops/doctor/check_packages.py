"""Checks of what is installed: versions within their bounds, and the plugin registered once."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import airflow_mlops
from airflow_mlops.doctor.diagnosis import OK, WARNING, WRONG, Finding, Level, Surroundings

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "airflow-mlops"


def check_versions(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield each installed distribution that is outside the bounds of this one's metadata, or that they all fit."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        seen = "airflow-mlops is not installed as a distribution, so nothing has chosen versions that fit together"
        yield Finding("versions", WARNING, seen, f"pip install {DISTRIBUTION}")
        return
    faults = [finding for finding in map(_misfit, requirements) if finding is not None]
    yield from faults
    if not faults:
        seen = f"{DISTRIBUTION} {version(DISTRIBUTION)}: every installed distribution is within the bounds it declares"
        yield Finding("versions", OK, seen)


def _misfit(requirement: Requirement) -> Finding | None:
    """Return the finding about a distribution that is missing or out of bounds; None where it fits."""
    optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
    if optional and "extra" not in str(requirement.marker):
        return None  # of another platform
    bounds = str(requirement.specifier)
    remedy = f"pip install '{requirement.name}{bounds}'"
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return None if optional else Finding("versions", WRONG, f"{requirement.name} is not installed", remedy)
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    level: Level = WARNING if optional else WRONG
    return Finding("versions", level, f"{requirement.name} {installed} is not within {bounds}", remedy)


def check_plugin(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield whether Airflow has registered the plugin, whether something registers it again, and whose code runs."""
    from airflow import plugins_manager

    plugins_manager.ensure_plugins_loaded()
    faults = {
        source: message
        for source, message in plugins_manager.get_import_errors().items()
        if "airflow_mlops" in f"{source} {message}"
    }
    registered = any("airflow_mlops" in name for name in plugins_manager.get_timetables_plugins())
    for source, message in faults.items():
        twice = "already registered" in message
        seen = f"the plugin is registered twice, again by {source}" if twice else f"{source}: {message}"
        remedy = "take the file out of the plugins folder: the installed distribution registers it" if twice else ""
        yield Finding("plugin", WRONG, seen, remedy)
    if not registered and not faults:
        seen = "Airflow has not registered it: local clocks cannot be read, and there are no pages"
        yield Finding("plugin", WRONG, seen, f"pip install {DISTRIBUTION}")
    elif not faults:
        yield _describe_code(Path(airflow_mlops.__file__).resolve().parent)


def _describe_code(package: Path) -> Finding:
    """Return the finding that names the folder whose code runs, and other copies of the package, which do not."""
    from airflow import settings

    homes = (settings.PLUGINS_FOLDER, sysconfig.get_path("purelib"))
    folders = {(Path(home) / package.name).resolve() for home in homes if home}
    copies = sorted(str(folder) for folder in folders - {package} if (folder / "__init__.py").is_file())
    if not copies:
        return Finding("plugin", OK, f"registered once, from {package}")
    seen = f"registered once, from {package}; {', '.join(copies)} is not read"
    return Finding("plugin", WARNING, seen, f"pip uninstall {DISTRIBUTION}   # or take the copy off the path")
