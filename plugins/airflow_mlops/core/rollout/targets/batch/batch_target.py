"""The batch target: each partition is scored with the versions that the ledger names.

There is nothing to apply: :func:`~airflow_mlops.core.rollout.score_partition.score_partition` reads the same records.
The target therefore always serves what the ledger says, from the next partition on.
"""

from __future__ import annotations

import numpy as np

from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.rollout_target import OlderTrafficError, Telemetry, Traffic, VersionTelemetry
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.reconcile_target import wanted_traffic
from airflow_mlops.core.workspace import Workspace


class BatchTarget:
    """The target that serves by scoring partitions.

    Parameters
    ----------
    workspace : Workspace
        The loop whose ledger names the versions.
    """

    name = "batch"

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def prepare(self, version: Version) -> None:
        """Raise RegistryError unless a version can be loaded; see :mod:`~airflow_mlops.core.ports.rollout_target`."""
        load_version(self.workspace, version)

    def apply(self, traffic: Traffic) -> None:
        """Raise OlderTrafficError if the ledger has newer traffic; there is nothing else to do."""
        current = self.observe()
        if traffic.order < current.order:
            raise OlderTrafficError(f"record {current.order} is newer than record {traffic.order}")

    def observe(self) -> Traffic:
        """Return the traffic of the next partition."""
        return wanted_traffic(self.workspace.loop, self.workspace.state())

    def telemetry(self) -> Telemetry:
        """Return empty telemetry: analyses of a batch target read predictions and labels from the lake."""
        nothing = VersionTelemetry(predictions=np.zeros(0))
        return Telemetry(self.observe().order, 0.0, nothing, nothing)

    def rollback(self, traffic: Traffic) -> None:
        """Raise OlderTrafficError if the ledger has newer traffic, as :meth:`apply` does."""
        self.apply(traffic)

    def finalize(self, traffic: Traffic) -> None:
        """Do nothing: a version that does not serve takes no resources."""
