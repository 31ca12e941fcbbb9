"""The target batch: predictions are made for each partition, and the ledger says with which versions.

There is nothing to tell: :func:`~airflow_mlops.core.rollout.score_partition.score_partition` reads the same records.
So what the target serves is always what the ledger says, from the next partition on.
"""

from __future__ import annotations

import numpy as np

from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.rollout_target import OlderTrafficError, Telemetry, Traffic, VersionTelemetry
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.reconcile_target import wanted_traffic
from airflow_mlops.core.workspace import Workspace


class BatchTarget:
    """Serves by scoring partitions.

    Parameters
    ----------
    workspace : Workspace
        The loop whose ledger says who serves.
    """

    name = "batch"

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def prepare(self, version: Version) -> None:
        """Raise unless a version can be loaded; see :mod:`~airflow_mlops.core.ports.rollout_target`."""
        load_version(self.workspace, version)

    def apply(self, traffic: Traffic) -> None:
        """Refuse what the ledger does not say; there is nothing else to do."""
        wanted = self.observe()
        if traffic.order < wanted.order:
            raise OlderTrafficError(f"record {wanted.order} is newer than record {traffic.order}")

    def observe(self) -> Traffic:
        """Return what the next partition will be scored with."""
        return wanted_traffic(self.workspace.loop, self.workspace.state())

    def telemetry(self) -> Telemetry:
        """Return that nothing was seen: what partitions say is read from the lake, with their labels."""
        nothing = VersionTelemetry(predictions=np.zeros(0))
        return Telemetry(self.observe().order, 0.0, nothing, nothing)

    def rollback(self, traffic: Traffic) -> None:
        """Do as :meth:`apply`."""
        self.apply(traffic)

    def finalize(self, traffic: Traffic) -> None:
        """Do nothing: nothing is kept for a version that does not serve."""
