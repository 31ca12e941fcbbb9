"""Check that Optuna is installed, without importing it: the parse of a Dag file runs this check."""

from __future__ import annotations

from importlib.util import find_spec

from airflow_mlops.core.errors import DeclarationError

SPACES = "train.search.optuna.spaces"
"""The key that declares what Optuna searches."""
INSTALL_OPTUNA = "pip install 'airflow-mlops[optuna]'"
MISSING_OPTUNA = f"{SPACES} needs optuna, which is not installed where it is fitted: {INSTALL_OPTUNA}"


def optuna_is_installed() -> bool:
    """Return whether the extra ``optuna`` is installed."""
    return find_spec("optuna") is not None


def require_optuna() -> None:
    """Raise DeclarationError, which names the extra to install, unless Optuna is installed.

    Raises
    ------
    DeclarationError
        If it is not.
    """
    if not optuna_is_installed():
        raise DeclarationError(f"needs optuna, which is not installed: {INSTALL_OPTUNA}", key="train.search.optuna")
