"""The base of every operator: it opens the workspace, determines the partition and translates errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import MlopsError, NotReadyError
from airflow_mlops.operators.links import ModelPageLink, mlflow_page
from airflow_mlops.operators.notified import base_address, notify_decisions
from airflow_mlops.operators.stage_lineage import LineageReporter
from airflow_mlops.operators.stage_spans import observing_stage

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class StageOperator(LineageReporter, BaseOperator):
    """A step of the loop.

    :param loop: the declaration: a :class:`Loop`, its fields as a mapping, or the path of its YAML file
    :param root: project folder that relative paths of the declaration start from
    :param partition: key of the partition; by default the partition of the Dag run, and in a run
        without one the newest published partition (an operator of the ingest then fails)
    :param emits: asset whose event is emitted only on a condition that the operator states
    :param lake_conn_id: connection of the folder of the lake; if it does not exist, the embedded default
    :param ledger_conn_id: connection of the database of the ledger; if it does not exist, the embedded default
    :param registry_conn_id: connection of the MLflow server; if it does not exist, the embedded default

    ``execute`` translates the errors of the core: NotReadyError into a skip, other errors into a failure without a
    retry, while retryable errors are raised as they are. Whatever ended, notifiers by kind are sent the decisions that
    the ledger holds and they have not been sent yet.
    """

    template_fields: Sequence[str] = ("partition",)
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        loop: Loop | Mapping[str, Any] | str | Path,
        root: str | Path = ".",
        partition: str | None = None,
        emits: Asset | None = None,
        lake_conn_id: str = "mlops_lake",
        ledger_conn_id: str = "mlops_ledger",
        registry_conn_id: str = "mlops_registry",
        **kwargs: Any,
    ) -> None:
        if emits is not None:
            kwargs["outlets"] = [*kwargs.get("outlets", []), AssetAlias(name=f"{emits.name}?")]
        super().__init__(**kwargs)
        self.loop = loop
        self.root = str(root)
        self.partition = partition
        self.emits = emits
        self.lake_conn_id = lake_conn_id
        self.ledger_conn_id = ledger_conn_id
        self.registry_conn_id = registry_conn_id
        self.addresses: dict[str, str] = {}

    def execute(self, context: Context) -> Any:
        """Run the step; see the class."""
        with self.opened(context) as (workspace, partition):
            self.log.info("%s of %s as of partition %s", type(self).__name__, workspace.loop.model, partition)
            with self.keeping_lineage(workspace, partition) as run:
                result = run.result = self.execute_stage(workspace, partition, context)
        self._add_partition_to_events(partition, context)
        return result

    @contextmanager
    def opened(self, context: Context) -> Iterator[tuple[Workspace, str]]:
        """Yield the workspace and the partition of the run; translate an error of the core into Airflow's."""
        from airflow_mlops.hooks.workspace import WorkspaceHook

        hook = WorkspaceHook(self.lake_conn_id, self.ledger_conn_id, self.registry_conn_id)
        with self.keeping_error(), translate_errors():
            workspace = hook.workspace(
                load_declaration(self.loop, self.root), root=Path(self.root), actor=actor_of(context)
            )
            self.addresses[ModelPageLink.name] = f"{base_address()}/airflow-mlops/models/{workspace.loop.model}"
            with notify_decisions(workspace, context):
                partition = self.partition_of(workspace, context)
                with observing_stage(type(self), workspace.loop.model, partition):
                    yield workspace, partition

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> Any:
        """Execute the step and return the value of its XCom, small JSON."""
        raise NotImplementedError

    def partition_of(self, workspace: Workspace, context: Context) -> str:
        """Return the key of the partition of the run.

        :raises NotReadyError: if the run has no partition and none is published
        """
        from airflow_mlops.core.declaration.partition_key import partition_key

        key = self.partition or context["dag_run"].partition_key
        if key:
            return partition_key(key)
        newest = workspace.state().published.newest()
        if newest is None:
            raise NotReadyError("the run has no partition, and no partition is published yet")
        return newest

    def require_partition(self, workspace: Workspace, context: Context) -> str:
        """Return the key of the partition that a run takes in: a tick of ``data.every``.

        :raises DataError: if the run has no partition, or its time is no tick
        """
        from airflow_mlops.core.errors import DataError

        schedule, dag_run = workspace.loop.data.schedule, context["dag_run"]
        key = self.partition or dag_run.partition_key
        if key:
            return schedule.require_tick(key)
        started = dag_run.run_after.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()
        closed = schedule.previous((datetime.fromisoformat(started) + timedelta(seconds=1)).isoformat())
        following = schedule.next(closed)
        raise DataError(
            f"run {dag_run.run_id} has no partition key, so it names no partition to take in; start it again with a "
            f"key: partition {schedule.describe(closed)} closed last before this run, and "
            f"{schedule.describe(following)} is the next"
        )

    def _add_partition_to_events(self, partition: str, context: Context) -> None:
        """In a run without a partition, add it to the outlets' events: an event without one starts no Dag here."""
        if context["dag_run"].partition_key is None:
            for outlet in self.outlets:
                if isinstance(outlet, Asset):
                    context["outlet_events"][outlet].add_partitions(partition)

    def note_mlflow_page(self, button: str, path: str) -> None:
        """Note the page of the MLflow server that a button leads to; none where MLflow is a database."""
        from airflow_mlops.hooks.workspace import WorkspaceHook, tracking_uri

        server = WorkspaceHook().find_connection(self.registry_conn_id)
        self.addresses[button] = "" if server is None else mlflow_page(tracking_uri(server), path)

    def emit(self, context: Context, **extra: Any) -> None:
        """Emit the event of the asset in ``emits``, for the partition of this run."""
        if self.emits is not None:
            context["outlet_events"][AssetAlias(name=f"{self.emits.name}?")].add(self.emits, extra=extra)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate an error of the core: not ready into a skip, others into a failure without a retry if none can help."""
    try:
        yield
    except NotReadyError as error:
        raise AirflowSkipException(str(error)) from error
    except MlopsError as error:
        if error.retryable:
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def load_declaration(loop: Loop | Mapping[str, Any] | str | Path, root: str) -> Loop:
    """Return the declaration from a Loop, its fields as a mapping, or the path of its YAML file."""
    if isinstance(loop, Loop):
        return loop
    if isinstance(loop, Mapping):
        return Loop(**loop)
    from airflow_mlops.core.declaration.read_loop import read_loop

    return read_loop(Path(root) / loop)


def actor_of(context: Context) -> str:
    """Return the actor for the ledger: Dag, task and run, and the person who started the run."""
    instance, person = context["ti"], context["dag_run"].triggering_user_name
    run = f"{instance.dag_id}/{instance.task_id}/{instance.run_id}"
    return run if person is None else f"{run} for person:{person}"
