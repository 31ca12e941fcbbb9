"""Triggers of a rollout: an analysis is due, or the rollout has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow_mlops.core.workspace import Workspace

LOG = logging.getLogger(__name__)


class _RolloutTrigger(BaseTrigger):
    """A trigger that polls the workspace; retryable errors are logged, and polling goes on.

    :param loop: the declaration as JSON values
    :param root: project folder
    :param version: number of the version
    :param poll_seconds: pause between two polls
    :param connections: ids of the connections of lake, ledger and registry
    """

    def __init__(
        self, *, loop: dict[str, Any], root: str, version: str, poll_seconds: float, connections: Sequence[str]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.loop = loop
        self.root = root
        self.version = version
        self.poll_seconds = poll_seconds
        self.connections = list(connections)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of this trigger."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        names = ("loop", "root", "version", "poll_seconds", "connections")
        return {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, as soon as there is a reason."""
        while True:
            # In a thread of its own: a target that does not answer must not block other triggers.
            reason = await asyncio.to_thread(self._poll)
            if reason is not None:
                yield TriggerEvent({"reason": reason})
                return
            await asyncio.sleep(self.poll_seconds)

    def _poll(self) -> str | None:
        from airflow_mlops.core.errors import MlopsError

        try:
            return self.resume_reason(self._workspace())
        except MlopsError as error:
            if error.retryable:
                LOG.warning("polled again in %g s: %s", self.poll_seconds, error)
                return None
            return str(error)

    def _workspace(self) -> Workspace:
        from airflow_mlops.core.declaration.loop import Loop
        from airflow_mlops.hooks.workspace import WorkspaceHook

        return WorkspaceHook(*self.connections).workspace(Loop(**self.loop), root=Path(self.root), actor="triggerer")

    def resume_reason(self, workspace: Workspace) -> str | None:
        """Return the reason to resume the task, None to go on waiting."""
        raise NotImplementedError


class LookDueTrigger(_RolloutTrigger):
    """Resume a task when an analysis of a stage is due, or there is nothing left to wait for.

    :param index: position of the stage in the declaration, from 0
    """

    def __init__(self, *, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.index = index

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().arguments(), "index": self.index}

    def resume_reason(self, workspace: Workspace) -> str | None:
        """Return why an analysis is due; None while the stage bakes or is paused."""
        from airflow_mlops.core.rollout.analyse_stage import reason_to_resume

        return reason_to_resume(workspace, self.version, self.index)


class RolloutEndedTrigger(_RolloutTrigger):
    """Resume a task when a rollout has ended, with or without success."""

    def resume_reason(self, workspace: Workspace) -> str | None:
        """Return how the rollout ended; None before it has ended."""
        from airflow_mlops.core.rollout.rollback import describe_ending

        return describe_ending(workspace.state(), self.version)
