"""Open the stores of a loop by Airflow connections, or below AIRFLOW_HOME without them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from sqlalchemy import URL

    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.lake import Lake
    from airflow_mlops.core.open_workspace import Stores
    from airflow_mlops.core.ports.signing_keys import SigningKeys
    from airflow_mlops.core.workspace import Workspace

PRIVACY = "mlops_privacy"
"""Connection whose password is the secret that masks personal columns."""
SIGNING = "mlops_signing"
"""Connection whose password is the private key that signs models, and whose extra ``public_key`` verifies them."""
MLFLOW_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Variables from which MLflow's client takes a login, at each request; it knows no other way."""
DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": "sqlite"}


class WorkspaceHook(BaseHook):
    """A hook that opens the workspace of a loop.

    Without a connection its store is the embedded default, in ``$AIRFLOW_HOME/mlops``.

    :param lake_conn_id: connection of type ``fs``, or ``aws`` for S3; its extra ``path`` is the folder of the lake
    :param ledger_conn_id: connection of type ``postgres`` or ``sqlite`` that holds the ledger
    :param registry_conn_id: connection of type ``http`` or ``https``: the MLflow server; its login and password are
        given to MLflow's client, a password without a login as a token
    """

    def __init__(
        self,
        lake_conn_id: str = "mlops_lake",
        ledger_conn_id: str = "mlops_ledger",
        registry_conn_id: str = "mlops_registry",
    ) -> None:
        super().__init__()
        self.lake_conn_id = lake_conn_id
        self.ledger_conn_id = ledger_conn_id
        self.registry_conn_id = registry_conn_id

    def stores(self) -> Stores:
        """Return the stores of all loops."""
        from airflow_mlops.core.open_workspace import Stores
        from airflow_mlops.hooks.connections import AirflowConnections

        embedded = Stores.embedded(embedded_folder())
        lake = self.find_connection(self.lake_conn_id)
        ledger = self.find_connection(self.ledger_conn_id)
        registry = self.find_connection(self.registry_conn_id)
        signing = self.find_connection(SIGNING)
        if registry is not None:
            log_in(registry)
        return Stores(
            lake=embedded.lake if lake is None else lake_of(lake),
            ledger_url=embedded.ledger_url if ledger is None else ledger_url(ledger),
            tracking_uri=embedded.tracking_uri if registry is None else tracking_uri(registry),
            artifact_location=embedded.artifact_location if registry is None else None,
            scratch=embedded.scratch,
            secret=self.secret(),
            connections=AirflowConnections(),
            keys=None if signing is None else signing_keys(signing),
            artefact_prefixes=() if registry is None else artefact_prefixes(registry),
        )

    def existing_ledger(self) -> str:
        """Return the address of the ledger, without its password; see :meth:`existing_ledger_url`."""
        return self.existing_ledger_url().render_as_string(hide_password=True)

    def existing_ledger_url(self) -> URL:
        """Return the SQLAlchemy URL of the ledger; nothing is opened or made.

        :raises DeclarationError: if it is a file, and is not there: nothing has run here, or it ran elsewhere
        """
        from sqlalchemy import make_url

        from airflow_mlops.core.open_workspace import EMBEDDED_LEDGER

        connection = self.find_connection(self.ledger_conn_id)
        embedded = embedded_folder() / EMBEDDED_LEDGER
        url = make_url(f"sqlite:///{embedded}" if connection is None else ledger_url(connection))
        if url.drivername == "sqlite" and url.database and not Path(url.database).exists():
            home = "AIRFLOW_HOME" if "AIRFLOW_HOME" in os.environ else "AIRFLOW_HOME, which is not set,"
            remedy = (
                f"set {home} to the home of the Airflow that runs the loop, or add connection {self.ledger_conn_id!r}"
            )
            raise DeclarationError(f"there is no ledger at {url.database}: no task of a loop has run here; {remedy}")
        return url

    def secret(self) -> str | None:
        """Return the secret that masks personal columns; None without its connection."""
        privacy = self.find_connection(PRIVACY)
        return None if privacy is None else privacy.password

    def workspace(self, loop: Loop, *, root: Path, actor: str) -> Workspace:
        """Return the workspace of ``loop``; see :func:`airflow_mlops.core.open_workspace.open_workspace`."""
        from airflow_mlops.core.open_workspace import open_workspace
        from airflow_mlops.hooks.ports import batch_predictor, rollout_target, step_runner

        opened = open_workspace(loop, self.stores(), root=root, actor=actor)
        return replace(
            opened,
            ports=replace(opened.ports, runner=step_runner, predictor=batch_predictor, target=rollout_target),
        )

    def find_connection(self, conn_id: str) -> Connection | None:
        """Return a connection by its id; None where there is none."""
        try:
            return self.get_connection(conn_id)
        except AirflowNotFoundException:
            return None


def embedded_folder() -> Path:
    """Return the folder of the stores that no connection names: ``mlops`` below AIRFLOW_HOME, by default ~/airflow."""
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "mlops"


def lake_of(connection: Connection) -> Lake:
    """Return the lake of a connection: a folder, or a prefix of a bucket in S3.

    :raises DeclarationError: if it has no path, or a path in S3 and another type than aws
    """
    from airflow_mlops.core.lake import Lake

    path = connection.extra_dejson.get("path")
    if not path:
        raise DeclarationError(f'connection {connection.conn_id!r} has no path of a lake; its extra must have "path"')
    if not path.startswith("s3://"):
        return Lake.on_disk(path)
    if connection.conn_type != "aws":
        raise DeclarationError(
            f"connection {connection.conn_id!r} has a lake in S3 and is of type {connection.conn_type!r}; "
            "it must be aws"
        )
    from airflow_mlops.hooks.connections import s3_access

    return Lake(path, s3_access(connection.conn_id))


def ledger_url(connection: Connection) -> str:
    """Return the SQLAlchemy URL of a connection, with its driver.

    :raises DeclarationError: if the ledger does not support databases of that type
    """
    from sqlalchemy import URL

    driver = DRIVERS.get(connection.conn_type or "")
    if driver is None:
        raise DeclarationError(
            f"connection {connection.conn_id!r} is of type {connection.conn_type!r}; "
            f"the ledger can be in {', '.join(sorted(DRIVERS))}"
        )
    if driver == "sqlite":
        return f"sqlite:///{connection.host}"
    url = URL.create(
        driver,
        username=connection.login,
        password=connection.password,
        host=connection.host or None,
        port=connection.port,
        database=connection.schema,
        query=connection.extra_dejson,
    )
    return url.render_as_string(hide_password=False)


def tracking_uri(connection: Connection) -> str:
    """Return the address of the MLflow server of a connection."""
    host = connection.host or ""
    if "://" in host:
        return host if connection.port is None else f"{host}:{connection.port}"
    return f"{connection.conn_type or 'http'}://{host}" + (f":{connection.port}" if connection.port else "")


def log_in(connection: Connection) -> None:
    """Give MLflow's client the login of a connection; without a password that of the environment stays."""
    if not connection.password:
        return
    name, password = connection.login, connection.password
    for variable, value in zip(MLFLOW_LOGIN, (name, password, None) if name else (None, None, password), strict=True):
        if value is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = value


def artefact_prefixes(connection: Connection) -> tuple[str, ...]:
    """Return the addresses below which the registry may keep artefacts; an empty tuple leaves it to MLflow.

    :raises DeclarationError: if the extra ``artefact_prefixes`` is not a list of addresses
    """
    prefixes = connection.extra_dejson.get("artefact_prefixes", [])
    if not isinstance(prefixes, list) or not all(isinstance(prefix, str) and prefix for prefix in prefixes):
        raise DeclarationError(
            f'connection {connection.conn_id!r}: "artefact_prefixes" in its extra is {prefixes!r}; '
            'it must be a list of addresses, as ["s3://company/mlflow"]'
        )
    return tuple(prefixes)


def signing_keys(connection: Connection) -> SigningKeys:
    """Return the keys of a connection; a worker that only loads models needs the public key alone.

    :raises DeclarationError: if it has no key
    """
    from airflow_mlops.core.ports.signing_keys import StaticKeys

    keys = connection.extra_dejson.get("public_key", [])
    public = [keys] if isinstance(keys, str) else keys
    if not isinstance(public, list) or not all(isinstance(key, str) for key in public):
        raise DeclarationError(f'connection {connection.conn_id!r}: "public_key" must be a PEM text, or a list of them')
    if not connection.password and not public:
        raise DeclarationError(
            f"connection {connection.conn_id!r} has no key: its password must be the private key (PEM), "
            'or its extra "public_key" the public key'
        )
    return StaticKeys(
        restore_line_ends(connection.password) if connection.password else None, tuple(map(restore_line_ends, public))
    )


def restore_line_ends(pem: str) -> str:
    r"""Return a PEM text with real line ends; a one-line field or variable has them as ``\n``."""
    return pem.replace("\\n", "\n").strip() + "\n"
