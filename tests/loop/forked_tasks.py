"""A scheduler whose tasks run each in a process that Airflow's supervisor forks, as under any executor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor, supervise_task

from airflow_mlops.testing.own_executor import OwnProcessExecutor
from airflow_mlops.testing.scheduler import InProcessScheduler

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask


class ForkingExecutor(OwnProcessExecutor):
    """Executes what the scheduler queues under Airflow's own supervisor, one after another, each with its log."""

    def _run(self, workload: ExecuteTask) -> None:
        ti = workload.ti
        logs = Path(os.environ["AIRFLOW_HOME"]) / "logs"
        supervise_task(
            ti=cast("Any", ti),
            bundle_info=cast("Any", workload.bundle_info),
            dag_rel_path=workload.dag_rel_path,
            token=workload.token,
            client=InProcessTestSupervisor._api_client(self.dags[ti.dag_id]),
            log_path=str(logs / (workload.log_path or "")),
        )
        self.success(ti.key)


class ForkingScheduler(InProcessScheduler):
    """The scheduler of the tests with that executor."""

    def __init__(self, dags_folder: Path) -> None:
        super().__init__(dags_folder)
        self._executor = ForkingExecutor(self._dags)
