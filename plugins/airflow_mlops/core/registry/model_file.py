"""Model files: written and read with skops, never unpickled, verified before every load.

The list of types a file may hold is the project's own. The one that stands in the file, or in the
registry beside it, is what an attacker would edit.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # While it is imported, skops looks at every attribute of every module, deprecated ones of others too.
    warnings.simplefilter("ignore")
    import skops.io

from airflow_mlops.core.errors import RegistryError, TrainingError

TRUSTED_TYPES = (
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss.loss.AbsoluteError",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "numpy.dtype",
)


def save_model(model: Any, path: Path) -> str:
    """Write a fitted estimator and return the SHA-256 of the file.

    Raises
    ------
    TrainingError
        If the model holds a type that the project does not trust: it could not be loaded again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        skops.io.dump(model, part)
    except Exception as error:  # what a user's estimator holds may fail in any way
        part.unlink(missing_ok=True)
        raise TrainingError(f"the model cannot be kept as a file: {type(error).__name__}: {error}") from error
    strange = sorted(set(skops.io.get_untrusted_types(file=part)) - set(TRUSTED_TYPES))
    if strange:
        part.unlink()
        raise TrainingError(f"the model holds types that are not trusted for loading: {', '.join(strange)}")
    part.replace(path)
    return file_digest(path)


def load_model(path: Path, digest: str) -> Any:
    """Return the estimator in a file, after making sure that the file is the one of ``digest``.

    Raises
    ------
    RegistryError
        If the file is missing, was changed, or holds a type the project does not trust.
    """
    if not path.exists():
        raise RegistryError(f"{path} is not there; the ledger knows it by its digest {digest[:12]}…")
    found = file_digest(path)
    if found != digest:
        raise RegistryError(f"{path.name} was changed: its digest is {found[:12]}…, the ledger says {digest[:12]}…")
    strange = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES))
    if strange:
        raise RegistryError(f"{path.name} holds types that are not trusted: {', '.join(strange)}")
    return skops.io.load(path, trusted=list(TRUSTED_TYPES))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
