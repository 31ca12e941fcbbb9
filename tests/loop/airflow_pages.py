"""Airflow's own application with the plugin in it, the people who ask it, and a server that a browser can reach."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PREFIX = "/airflow-mlops"
COOKIE = "_token"


@contextmanager
def airflow_application() -> Iterator[Any]:
    """Yield the application, where not everybody is an administrator."""
    from airflow.api_fastapi.app import create_app, purge_cached_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "False")
        purge_cached_app()
        yield create_app(apps="core")
        purge_cached_app()


@contextmanager
def airflow_client() -> Iterator[Any]:
    """Yield a client of the application."""
    from fastapi.testclient import TestClient

    with airflow_application() as app:
        yield TestClient(app, raise_server_exceptions=True)


@contextmanager
def airflow_server() -> Iterator[str]:
    """Yield the address of the application on a free port of loopback."""
    import uvicorn

    with airflow_application() as app, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)


def jwt_of(role: str | None, name: str = "ann") -> str:
    """Return the token of somebody who is signed in with a role."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return str(get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role)))


def token(role: str | None, name: str = "ann") -> dict[str, str]:
    """Return the headers of somebody who is signed in with a role."""
    return {"Authorization": f"Bearer {jwt_of(role, name)}"}


def directives(policy: str) -> dict[str, str]:
    """Return the parts of a content security policy by their names."""
    return {name: rest for name, _, rest in (part.strip().partition(" ") for part in policy.split(";"))}


def plugin_routes(client: Any) -> list[Any]:
    """Return every route that the plugin opens."""
    (mounted,) = [route for route in client.app.routes if getattr(route, "path", None) == PREFIX]
    return list(mounted.app.app.routes)
