"""Whether Evidently can be asked here. Nothing heavy is imported to tell: the parse of a Dag file asks."""

from __future__ import annotations

from importlib.util import find_spec

from airflow_mlops.core.errors import DeclarationError


def evidently_is_installed() -> bool:
    """Whether the extra ``evidently`` is there."""
    return find_spec("evidently") is not None


def require_evidently() -> None:
    """Raise :class:`DeclarationError` if Evidently is not installed."""
    if not evidently_is_installed():
        raise DeclarationError("Evidently is not installed; install airflow-mlops[evidently]", key="watch.drift.engine")
