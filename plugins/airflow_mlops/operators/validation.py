"""Operators of the stage validation: of a loop's snapshots, and of any other rows, tables and checkpoints.

A critical failure fails the task. On a warning the task succeeds and the notifiers are called with the context of the
task, in which ``validation_findings`` is the report and ``exception`` a :class:`UserWarning` with it in one line, so
that a callback written for failures works unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.operators.notified import Notify, call_notifiers
from airflow_mlops.operators.stage import StageOperator, translate_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.validation.validate_rows import Findings
    from airflow_mlops.core.workspace import Workspace
    from airflow_mlops.operators.stage_lineage import StageRun

LOG = logging.getLogger(__name__)


class ValidateSnapshotOperator(StageOperator):
    """Check expectations: on a snapshot of a loop, on any file or data frame, or by an existing checkpoint.

    :param loop: the declaration, for rows of a loop; then ``manifest`` is needed and nothing else below
    :param manifest: what :class:`TakeSnapshotOperator` returned
    :param rows: without a loop: path of a Parquet or CSV file below ``root``, or a data frame, for example the
        ``.output`` of another task
    :param python_callable: without a loop: a function without parameters that returns a pandas or Arrow frame
    :param expectations: of ``rows`` or ``python_callable``: path of a suite below ``root``, or a list of mappings
    :param checkpoint: without a loop: name of a checkpoint of a Great Expectations file context
    :param context_root_dir: folder of that context, the one that holds ``great_expectations.yml``
    :param batch_parameters: parameters of the checkpoint's batch definitions
    :param notify: notifiers or callbacks called with warnings, as functions or by ``module:name``; a loop's own are
        called in any case

    Bad rows of a loop go to quarantine with their reasons; it fails, and records the refusal, if more rows are bad than
    declared. Without a loop it fails if a critical expectation fails, and returns a report.
    """

    template_fields: Sequence[str] = ("partition", "manifest", "rows", "checkpoint", "batch_parameters")

    def __init__(
        self,
        *,
        loop: Loop | Mapping[str, Any] | str | Path | None = None,
        manifest: Any = None,
        rows: Any = None,
        python_callable: Callable[[], Any] | None = None,
        expectations: str | Path | Sequence[Mapping[str, Any]] | None = None,
        checkpoint: str | None = None,
        context_root_dir: str | Path | None = None,
        batch_parameters: Mapping[str, Any] | None = None,
        notify: Notify = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(loop={} if loop is None else loop, **kwargs)
        self.alone = loop is None
        self.manifest = manifest
        self.rows = rows
        self.python_callable = python_callable
        self.expectations = expectations
        self.checkpoint = checkpoint
        self.context_root_dir = context_root_dir
        self.batch_parameters = batch_parameters
        self.notify = notify

    def execute(self, context: Context) -> Any:
        """Validate; see the class."""
        if not self.alone:
            return super().execute(context)
        with self.keeping_error(), translate_errors():
            self.keep_datasets(self.datasets)
            findings = self.findings()
            self.keep_datasets(lambda: self.datasets(findings))
            return report_findings(findings, context, self.notify, self.root)

    def datasets(self, findings: Findings | None = None) -> Datasets:
        """Return the file that is validated without a loop, with the result of each rule once there is one.

        A data frame has no name outside of its task, and a checkpoint keeps its batches to itself.
        """
        from airflow_mlops.core.lineage.rule_results import file_lineage
        from airflow_mlops.core.lineage.task_lineage import Datasets

        if not isinstance(self.rows, str | Path):
            return Datasets()
        rows, results = (None, ()) if findings is None else (findings.rows, findings.results)
        return file_lineage(self.rows, Path(self.root), rows=rows, results=results)

    def partition_of(self, workspace: Workspace, context: Context) -> str:
        """Return the partition of the manifest; without one, that of the run."""
        return str(self.manifest["partition"]) if self.manifest else super().partition_of(workspace, context)

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """Validate a snapshot of a loop."""
        if self.manifest is None:
            raise DeclarationError("a loop is given, and no manifest of TakeSnapshotOperator", key="manifest")
        from airflow_mlops.core.data.take_snapshot import SnapshotManifest
        from airflow_mlops.core.validation.gx_validator import GxValidator
        from airflow_mlops.core.validation.validate_snapshot import validate_snapshot

        validated = validate_snapshot(workspace, SnapshotManifest.from_dict(self.manifest), GxValidator()).to_dict()
        if validated["warnings"]:
            notify_warnings([*workspace.loop.callbacks, *self.notify], self.root, context, validated)
        return validated

    def findings(self) -> Findings:
        """Return the findings of the expectations on rows that belong to no loop.

        :raises DeclarationError: if not exactly one of the three kinds of rows is given
        """
        sources = [name for name in ("rows", "python_callable", "checkpoint") if getattr(self, name) is not None]
        if len(sources) != 1:
            raise DeclarationError(
                "needs loop and manifest, or exactly one of rows, python_callable, checkpoint; "
                f"got {', '.join(sources) or 'none'}"
            )
        from airflow_mlops.core.validation.validate_rows import Findings

        if self.checkpoint is not None:
            from airflow_mlops.core.validation.gx_checkpoint import run_checkpoint

            folder = Path(self.root) / (self.context_root_dir or "gx")
            results = run_checkpoint(folder, self.checkpoint, batch_parameters=self.batch_parameters)
            return Findings(f"checkpoint {self.checkpoint!r}", None, tuple(results))
        return self._validate_rows()

    def _validate_rows(self) -> Findings:
        from airflow_mlops.core.validation.gx_validator import GxValidator
        from airflow_mlops.core.validation.validate_rows import parse_expectations, read_file, to_table, validate_rows

        if self.expectations is None:
            raise DeclarationError("rows are given, and no expectations of them", key="expectations")
        expectations = parse_expectations(self.expectations, Path(self.root))
        if isinstance(self.rows, str | Path):
            subject, table = str(self.rows), read_file(Path(self.root) / self.rows, expectations)
        else:
            rows = self.python_callable() if self.python_callable is not None else self.rows
            subject, table = "the rows", to_table(rows)
        return validate_rows(subject, table, expectations, GxValidator())

    def lineage(self, run: StageRun) -> Datasets:
        """Return the snapshot with the result of each rule."""
        from airflow_mlops.core.lineage.data_lineage import validation_lineage

        return validation_lineage(run.workspace, self.manifest, run.result)


def report_findings(findings: Findings, context: Context, notify: Notify, root: str) -> dict[str, Any]:
    """Log the findings, notify of warnings, and return the report, which is an XCom even if this raises.

    :raises PartitionRefusedError: if a critical expectation failed
    """
    from airflow_mlops.core.validation.validate_rows import require_critical

    report = findings.to_dict()
    for severity in ("critical", "warning", "info"):
        for message in report[severity]:
            LOG.info("%s: %s", severity, message)
    context["ti"].xcom_push(key="findings", value=report)
    if report["warning"]:
        notify_warnings(notify, root, context, {**report, "warnings": report["warning"]})
    require_critical(findings)
    return report


def notify_warnings(notify: Notify, root: str, context: Context, report: Mapping[str, Any]) -> None:
    """Call the notifiers with warnings."""
    count = len(report["warnings"])
    warning = UserWarning(f"{count} warning{'s' * (count != 1)} of the validation: {'; '.join(report['warnings'])}")
    call_notifiers(notify, root, {**context, "exception": warning, "validation_findings": dict(report)})
