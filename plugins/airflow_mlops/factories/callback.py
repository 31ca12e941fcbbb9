"""Callbacks of failed tasks that a declaration names, imported only when a task has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.declaration.notify import Notifier


class NamedCallback:
    """Calls ``module:name``, a function or an Airflow notifier, with the context of the failed task."""

    def __init__(self, reference: str, root: str) -> None:
        self.reference, self.root = reference, root

    def __call__(self, context: Context) -> Any:
        """Import the callback and call it."""
        from pathlib import Path

        from airflow_mlops.core.declaration.user_function import load_function

        return load_function(self.reference, Path(self.root))(context)


class FailureMessage:
    """Sends a notifier the message that a task of a loop has failed."""

    def __init__(self, notifier: Notifier, loop: Loop, root: str) -> None:
        self.notifier, self.loop, self.root = notifier, loop, root

    def __call__(self, context: Context) -> None:
        """Send the message; Airflow logs an error."""
        from airflow_mlops.core.overview.messages import failure_message
        from airflow_mlops.operators.notified import base_address, deliver

        task, run = context["ti"], context["dag_run"]
        actor = f"{task.dag_id}/{task.task_id}/{task.run_id}"
        error = context.get("exception") or "no error is known"
        message = failure_message(
            self.loop, actor, str(error), attempt=task.try_number, partition=run.partition_key, base_url=base_address()
        )
        deliver(self.notifier, message, self.root, context)
