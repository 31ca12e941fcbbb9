"""Where the declaration has candidates fitted, with what Airflow knows about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.core.declaration.train import OnSageMaker

if TYPE_CHECKING:
    from airflow_mlops.core.ports.step_runner import StepRunner
    from airflow_mlops.core.workspace import Workspace


def step_runner(workspace: Workspace, *, poll_seconds: float = 15.0) -> StepRunner:
    """Return what fits the candidates of a loop.

    :param poll_seconds: longest pause between two looks at a job that runs elsewhere
    """
    train = workspace.loop.train
    if isinstance(train.runs_on, OnSageMaker):
        from airflow_mlops.hooks.sagemaker_step import SageMakerStep

        return SageMakerStep(train.runs_on, train.limits, poll_seconds=poll_seconds)
    from airflow_mlops.core.training.fit_candidate import runner_of

    return runner_of(workspace)
