"""Call the notifiers and callbacks of a loop outside of a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)
Notify = Sequence[str | Callable[..., Any]]


def call_notifiers(notify: Notify, root: str, context: Any) -> None:
    """Call each notifier with a context; an error is logged and changes nothing, as in Airflow itself."""
    from airflow_mlops.core.declaration.user_function import load_function

    for notifier in notify:
        try:
            callback = load_function(notifier, Path(root)) if isinstance(notifier, str) else notifier
            callback(context)
        except Exception:  # whatever a user's notifier raises
            LOG.exception("notifier %s failed", notifier)
