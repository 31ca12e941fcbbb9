"""A callback named in a declaration, imported only when a task has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context


class NamedCallback:
    """Calls ``module:name``, a function or an Airflow notifier, with the context of the failed task."""

    def __init__(self, reference: str, root: str) -> None:
        self.reference, self.root = reference, root

    def __call__(self, context: Context) -> Any:
        """Import the callback and call it."""
        from pathlib import Path

        from airflow_mlops.core.declaration.user_function import load_function

        return load_function(self.reference, Path(self.root))(context)
