"""Start a gateway, or say which extra brings what it needs."""

from __future__ import annotations

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.gateway.settings import Settings

EXTRA = frozenset({"httptools", "prometheus_client", "uvicorn", "uvloop"})
"""Modules of the packages that the extra ``gateway`` brings."""


def start_gateway(settings: Settings) -> None:
    """Serve until a signal ends it.

    Raises
    ------
    DeclarationError
        If the extra ``gateway`` is not installed.
    RolloutError
        If the port cannot be opened, or another gateway runs on the state folder.
    """
    try:
        import httptools as _httptools  # noqa: F401 - uvicorn would import it at the first request only

        from airflow_mlops.gateway.server import run
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise DeclarationError(
            f"the gateway needs {error.name}, which is not installed: pip install 'airflow-mlops[gateway]'"
        ) from None
    run(settings)
