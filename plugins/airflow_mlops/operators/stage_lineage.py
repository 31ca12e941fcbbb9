"""Keep the lineage of a stage while its stores are open, and hand it to OpenLineage after the task.

The listener of Airflow's provider asks in a fork of the task, where neither Delta nor a connection to the ledger can be
used. So plain records are read at the end of the stage, and only translated there.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.errors import MlopsError, NotReadyError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_mlops.core.ledger.record import Record
    from airflow_mlops.core.lineage.declared_sources import SourceNames
    from airflow_mlops.core.lineage.task_lineage import Datasets, TaskLineage
    from airflow_mlops.core.workspace import Workspace

LOG = logging.getLogger(__name__)
LISTENER = "airflow.providers.openlineage.plugins.listener"
"""Module that Airflow has imported where lineage is switched on, and only there."""


@dataclass
class StageRun:
    """A stage that ran: its workspace, its partition, what it returned, and the ledger records that it appended.

    ``result`` is None where it failed.
    """

    workspace: Workspace
    partition: str
    result: Any = None
    records: list[Record[Any]] = field(default_factory=list)

    @property
    def version(self) -> str | None:
        """The version of the model that the newest of the records is about."""
        versions = (getattr(record.details, "version", None) for record in reversed(self.records))
        return next((version for version in versions if isinstance(version, str)), None)

    @property
    def names(self) -> SourceNames:
        """The surroundings that name the sources of the loop."""
        from airflow_mlops.core.lineage.declared_sources import SourceNames
        from airflow_mlops.hooks.connections import database_address

        return SourceNames(self.workspace.root, self.workspace.connections, database_address)


class DatasetReporter:
    """The part of an operator that OpenLineage asks; it imports OpenLineage only then.

    An operator without a loop keeps its datasets by :meth:`keep_datasets`. An error of that is logged and fails none.
    """

    kept_lineage: TaskLineage | Datasets | None = None
    kept_error: Exception | None = None

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the lineage that was kept, for an event of type COMPLETE."""
        from airflow_mlops.operators.openlineage_facets import operator_lineage

        return operator_lineage(self.kept_lineage)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the lineage that was kept, for an event of type FAIL: without what was not written.

        The event quotes the error of the task, which is stripped of secrets here: the task has logged it before.
        """
        from airflow_mlops.operators.openlineage_facets import strip_secrets

        strip_secrets(self.kept_error)
        return self.get_openlineage_facets_on_complete(task_instance)

    @contextmanager
    def keeping_error(self) -> Iterator[None]:
        """Keep the error of the body, which is raised on."""
        try:
            yield
        except Exception as error:
            self.kept_error = error
            raise

    def keep_datasets(self, read: Callable[[], Datasets]) -> None:
        """Keep the datasets that a function returns, if lineage is switched on; what it raises is logged.

        The newest call counts: before the work, for the event of a failure, and after it.
        """
        if LISTENER not in sys.modules:
            return
        try:
            self.kept_lineage = read()
        except Exception:  # a connection, a query that nobody can parse, or anything else
            LOG.warning("the lineage of this task is not known", exc_info=True)


class LineageReporter(DatasetReporter):
    """The same of a stage of a loop, which states its datasets in :meth:`lineage`."""

    def lineage(self, run: StageRun) -> Datasets:
        """Return the datasets that the stage read and wrote; none by default."""
        from airflow_mlops.core.lineage.task_lineage import Datasets

        return Datasets()

    @contextmanager
    def keeping_lineage(self, workspace: Workspace, partition: str) -> Iterator[StageRun]:
        """Keep the lineage of the stage in the body, which sets the ``result``, if lineage is switched on.

        Nothing is read where it is off, or where the stage skips or waits.
        """
        run = StageRun(workspace, partition)
        if LISTENER not in sys.modules:
            yield run
            return
        head = _read_head(workspace)
        try:
            yield run
        except NotReadyError:
            raise
        except MlopsError:
            self._keep(run, head)
            raise
        self._keep(run, head)

    def _keep(self, run: StageRun, head: int | None) -> None:
        """Read the lineage of a stage into ``kept_lineage``; an error is logged, and the records are kept alone."""
        from airflow_mlops.core.lineage.task_lineage import Datasets, RecordReference, TaskLineage

        datasets = Datasets()
        try:
            run.records = appended_records(run, head)
            datasets = self.lineage(run)
        except Exception:  # a store, a connection, or anything else
            LOG.warning("the lineage of this task is not known", exc_info=True)
        references = tuple(RecordReference(record.sequence, record.kind, record.hash) for record in run.records)
        self.kept_lineage = TaskLineage(run.workspace.loop.model, run.partition, datasets, references)


def appended_records(run: StageRun, head: int | None) -> list[Record[Any]]:
    """Return the records that this task appended after record ``head``, or else the one that its result names."""
    workspace, result = run.workspace, run.result
    records = [] if head is None else list(workspace.ledger.records(after=head))
    appended = [record for record in records if record.actor == workspace.actor]
    if not appended and isinstance(result, Mapping) and isinstance(result.get("record"), int):
        appended = [record for record in [workspace.ledger.record(result["record"])] if record is not None]
    return appended


def _read_head(workspace: Workspace) -> int | None:
    try:
        return workspace.ledger.head().sequence
    except Exception:  # whatever the ledger raises, the stage meets and reports it itself
        LOG.warning("the records of this task are not known to its lineage", exc_info=True)
        return None


def rollout_datasets(run: StageRun, version: str | None) -> Datasets:
    """Return a version that is rolled out or taken back, and what serves now; no datasets without a version."""
    from airflow_mlops.core.lineage.model_lineage import rollout_lineage
    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.hooks.ports import endpoint_dataset

    return Datasets() if version is None else rollout_lineage(run.workspace, endpoint_dataset(run.workspace), version)
