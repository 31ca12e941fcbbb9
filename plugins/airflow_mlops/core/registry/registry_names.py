"""The allowed names of models, numbers of versions and addresses of artefacts in a registry.

A registry accepts any text for these, and lets a version point to somebody else's bucket. This package reads artefacts
only below declared addresses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from airflow_mlops.core.errors import RegistryError

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


def require_model_name(name: str) -> str:
    """Return the name of a model if it is allowed.

    Raises
    ------
    RegistryError
        If it is not 1 to 63 lower-case letters, digits, ``_`` or ``-``, a letter or digit first.

    >>> require_model_name("flight_air_time")
    'flight_air_time'
    """
    if not MODEL_NAME.fullmatch(name):
        raise RegistryError(
            f"no model may be called {name[:80]!r}: a name is 1 to 63 lower-case letters, digits, _ or -, "
            "and starts with a letter or digit"
        )
    return name


def require_version_number(number: str) -> str:
    """Return the number of a version if it is allowed.

    Raises
    ------
    RegistryError
        If it is not a decimal number from 1.
    """
    if not VERSION_NUMBER.fullmatch(number):
        raise RegistryError(f"no version is called {number[:80]!r}: versions are the decimal numbers from 1")
    return number


def require_allowed(source: str, prefixes: Sequence[str]) -> None:
    """Raise RegistryError unless the address of an artefact lies below one of ``prefixes``.

    Raises
    ------
    RegistryError
        If it lies elsewhere; names the address and the allowed prefixes.
    """
    if not any(lies_below(source, prefix) for prefix in prefixes):
        raise RegistryError(
            f"artefacts at {source[:300]} are not read: they must lie below {' or '.join(prefixes)}. "
            'Another place is allowed by "artefact_prefixes" in the extra of the connection mlops_registry'
        )


def lies_below(source: str, prefix: str) -> bool:
    """Return whether an address is below another: same scheme, same host, and the folders of the prefix before its own.

    >>> lies_below("s3://company/models/7/x", "s3://company/models")
    True
    >>> lies_below("s3://company/models-of-others/7", "s3://company/models")
    False
    >>> lies_below("s3://company/models/../secrets", "s3://company/models")
    False
    """
    inner, outer = split_address(source), split_address(prefix)
    if inner is None or outer is None:
        return False
    return inner[0] == outer[0] and len(inner[1]) > len(outer[1]) and inner[1][: len(outer[1])] == outer[1]


def split_address(address: str) -> tuple[str, tuple[str, ...]] | None:
    """Return scheme with host, and the folders, of an address; None if the address is ambiguous."""
    try:
        split = urlsplit(address)
        path = unquote(split.path, errors="strict")
    except ValueError:
        return None
    folders = tuple(part for part in PurePosixPath(path).parts if part != "/")
    if split.query or split.fragment or "\\" in path or "\0" in path or "%" in path or ".." in folders:
        return None
    return f"{split.scheme or 'file'}://{split.netloc}", folders
