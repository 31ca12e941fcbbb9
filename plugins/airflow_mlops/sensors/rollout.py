"""The sensor of a rollout: wait until a version is live, and fail if it was rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class RolloutSensor(StageOperator):
    """Wait, without a worker slot, until the rollout of a version has ended; fails if it was rolled back.

    For a Dag of your own that continues once a model is live, such as one that warms a cache.

    :param version: number of the version, as :class:`~airflow_mlops.operators.rollout.StartRolloutOperator` returns it
    :param poll_seconds: pause between two polls of the ledger
    """

    template_fields: Sequence[str] = ("partition", "version")

    def __init__(self, *, version: Any, poll_seconds: float = 30.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.poll_seconds = poll_seconds

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> str:
        """Return how the rollout ended, or defer until it has."""
        from airflow_mlops.core.errors import RolledBackError
        from airflow_mlops.core.rollout.rollback import describe_ending
        from airflow_mlops.triggers.rollout import RolloutEndedTrigger

        state, number = workspace.state(), str(self.version)
        outcome = describe_ending(state, number)
        if outcome is None:
            self.defer(
                trigger=RolloutEndedTrigger(
                    loop=workspace.loop.to_dict(),
                    root=self.root,
                    version=number,
                    poll_seconds=self.poll_seconds,
                    connections=[self.lake_conn_id, self.ledger_conn_id, self.registry_conn_id],
                ),
                method_name="has_ended",
            )
        if number in state.quarantined:
            raise RolledBackError(str(outcome))
        return str(outcome)

    def has_ended(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Resume after the rollout has ended."""
        self.log.info("%s", (event or {}).get("reason"))
        return self.execute(context)
