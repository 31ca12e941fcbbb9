"""Hold the user's metric that compares models against the code by which a version was judged."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_mlops.core.declaration.own_types import metric_code
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.workspace import Workspace


class MetricChangedError(GateError):
    """A version was judged by other code of the user's metric than the project holds now."""


_VERIFIED: dict[str, str] = {}
"""The digest of each module when this process first verified it: what it has imported does not change with the file."""


def require_metric_code(workspace: Workspace, recorded: Mapping[str, str] | None, subject: str) -> None:
    """Raise MetricChangedError unless the metric that compares models is the code that was recorded.

    Parameters
    ----------
    recorded : mapping of str to str, optional
        The digests by module that stand in a request or with a version; see
        :func:`~airflow_mlops.core.declaration.own_types.metric_code`.
    subject : str
        What was judged; begins the message.

    Raises
    ------
    MetricChangedError
        Naming the module that differs. A built-in metric is never refused.
    """
    metric = workspace.loop.metric
    now = metric_code(metric, workspace.root)
    if now is None:
        return
    if recorded is None:
        raise MetricChangedError(
            f"{subject} was judged before {metric} compared models, so its code is not known; train again"
        )
    changed = sorted(name for name in {*now, *recorded} if now.get(name) != recorded.get(name))
    if changed:
        name = next((module for module in changed if ":" not in module), changed[0])
        raise MetricChangedError(
            f"{subject} was judged by {metric} of other code: {name!r} had {_short(recorded.get(name))}, and the "
            f"project has {_short(now.get(name))}; their values do not compare: put that code back, or train again"
        )
    stale = next((module for module, digest in now.items() if _VERIFIED.setdefault(module, digest) != digest), None)
    if stale is not None:
        raise MetricChangedError(
            f"{subject} was judged by {metric}, and this process has imported {stale!r} of "
            f"{_short(_VERIFIED[stale])}, not of {_short(now[stale])}; start it again"
        )


def _short(digest: str | None) -> str:
    return "no digest" if digest is None else f"the digest {digest[:12]}…"
