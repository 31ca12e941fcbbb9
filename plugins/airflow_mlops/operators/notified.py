"""Calling the notifiers and callbacks of a loop outside of a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)
Notify = Sequence[str | Callable[..., Any]]


def call_notifiers(notify: Notify, root: str, told: Any) -> None:
    """Call each with a context; one that raises is logged and changes nothing, as in Airflow itself."""
    from airflow_mlops.core.declaration.user_function import load_function

    for one in notify:
        try:
            callback = load_function(one, Path(root)) if isinstance(one, str) else one
            callback(told)
        except Exception:  # whatever a user's notifier raises
            LOG.exception("notifier %s failed", one)
