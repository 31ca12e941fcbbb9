"""The operator that acts on a loop: what a person asks for on a form or a page, or a Dag of theirs by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.links import ModelPageLink
from airflow_mlops.operators.stage import StageOperator
from airflow_mlops.operators.stage_lineage import StageRun, rollout_datasets

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace

REPLAY = "replay"
CONTROL_ACTIONS = ("pause", "resume", "skip", "abort", "rollback", "unquarantine", "release", REPLAY)
"""The actions of :func:`~airflow_mlops.core.rollout.control_loop.control_loop`, which a Dag file must not import, and a
replay, which changes nothing."""


class ControlLoopOperator(StageOperator):
    """Act on a loop: on its rollout, its champion, a version, or rows in quarantine; or replay policies.

    :param action: ``pause``, ``resume``, ``skip`` or ``abort`` of the rollout under way, ``rollback``,
        ``unquarantine`` of a version, ``release`` of the rows of a partition, or ``replay`` of policies
    :param reason: why, for the ledger
    :param version: version that is meant, and no other; any if empty
    :param to: for ``rollback`` the version that shall serve; the champion before this one if empty
    :param released: for ``release`` the key of the partition
    :param policies: for ``replay`` the policies with commas between; the usual ones if empty
    :param window: for ``replay`` the windows to train on with commas between; the declared ones if empty
    :param until: for ``replay`` the key of the last partition; the newest if empty
    :param split: for ``replay`` the key of the last partition that a policy is chosen on; the middle if empty
    :param processes: for ``replay`` the number of fits at once
    """

    operator_extra_links = (ModelPageLink(),)
    template_fields: Sequence[str] = (
        "partition",
        "action",
        "reason",
        "version",
        "to",
        "released",
        "policies",
        "window",
        "until",
        "split",
    )

    def __init__(
        self,
        *,
        action: str,
        reason: str,
        version: str = "",
        to: str = "",
        released: str = "",
        policies: str = "",
        window: str = "",
        until: str = "",
        split: str = "",
        processes: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.action = action
        self.reason = reason
        self.version = version
        self.to = to
        self.released = released
        self.policies = policies
        self.window = window
        self.until = until
        self.split = split
        self.processes = processes

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> str:
        """See the class."""
        task = context["ti"]
        attempt = f"{task.dag_id}/{task.task_id}/{task.run_id}"
        message = self.replay(workspace, attempt) if self.action == REPLAY else self.act(workspace, attempt)
        self.log.info("%s", message)
        return message

    def act(self, workspace: Workspace, attempt: str) -> str:
        """Act on the loop, and return a message about the effect."""
        from airflow_mlops.core.declaration.partition_key import partition_key
        from airflow_mlops.core.rollout.control_loop import control_loop
        from airflow_mlops.core.validation.gx_validator import GxValidator

        return control_loop(
            workspace,
            self.action,
            GxValidator(),
            reason=self.reason,
            version=self.version or None,
            to=self.to or None,
            partition=partition_key(self.released) if self.released else None,
            attempt=attempt,
        )

    def replay(self, workspace: Workspace, attempt: str) -> str:
        """Replay policies over the history, and return the advice.

        :raises DataError: if too few partitions are published; a person who has asked is not answered by a skip
        """
        from airflow_mlops.core.errors import DataError, NotReadyError
        from airflow_mlops.core.replay.recorded_replay import replay_and_record
        from airflow_mlops.core.replay.replay_request import replay_request

        request = replay_request(self.policies, window=self.window, until=self.until, split=self.split)
        try:
            record = replay_and_record(
                workspace,
                request,
                reason=self.reason,
                attempt=attempt,
                processes=self.processes,
                progress=lambda line: self.log.info("%s", line),
            )
        except NotReadyError as error:
            raise DataError(f"nothing was replayed: {error}") from error
        return f"replayed (record {record.sequence}): {record.details.advice}"

    def on_kill(self) -> None:
        """End the processes that fit the models of a replay."""
        import multiprocessing

        for process in multiprocessing.active_children():
            process.terminate()

    def lineage(self, run: StageRun) -> Datasets:
        """Return the version that was acted on and the endpoint, if there is a version."""
        return rollout_datasets(run, run.version)
