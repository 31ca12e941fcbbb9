"""Check that Evidently is installed, without importing it: the parse of a Dag file runs this check."""

from __future__ import annotations

from importlib.util import find_spec

from airflow_mlops.core.errors import DeclarationError


def evidently_is_installed() -> bool:
    """Return whether the extra ``evidently`` is installed."""
    return find_spec("evidently") is not None


def require_evidently() -> None:
    """Raise :class:`DeclarationError` if Evidently is not installed."""
    if not evidently_is_installed():
        raise DeclarationError("Evidently is not installed; install airflow-mlops[evidently]", key="watch.drift.engine")
