"""The section ``resources``: where Airflow runs the tasks of each stage.

    resources:
      default: {queue: small}
      fit: {pool: fits, slots: 2, queue: big}

A key of a stage goes over the same key of ``default``, and one of ``fit`` over that of ``train``, whose Dag it is in.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from airflow_mlops.core.declaration.declared import Declared
from airflow_mlops.core.errors import DeclarationError

NAME_LENGTH = 250
Name = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]


class ExecutorConfig(dict[str, Any]):
    """A mapping of JSON values that has a hash, as a declaration needs; nothing changes it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


def _json_values(values: dict[str, Any]) -> ExecutorConfig:
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"must hold JSON values alone ({error}); for a pod write pod_template_file and the path of its template"
        ) from None
    return ExecutorConfig(values)


class StageResources(Declared):
    """Where the tasks of a stage run; what is not declared is as Airflow has it."""

    pool: Name | None = Field(default=None, description="pool of Airflow whose slots the tasks take")
    slots: int | None = Field(default=None, ge=1, description="slots of that pool that each task takes")
    queue: Name | None = Field(default=None, description="queue of Celery that the workers of these tasks listen to")
    executor_config: Annotated[dict[str, Any], AfterValidator(_json_values)] | None = Field(
        default=None,
        description="``executor_config`` of the tasks, as it stands; ``pod_template_file`` for KubernetesExecutor",
    )

    @model_validator(mode="after")
    def _require_something(self) -> StageResources:
        if not self.task_args:
            raise ValueError("declares nothing; write a pool, a queue or an executor_config, or take the stage out")
        return self

    @property
    def task_args(self) -> dict[str, Any]:
        """The arguments of an operator of Airflow that are declared."""
        names = {"pool": self.pool, "pool_slots": self.slots, "queue": self.queue}
        args: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
        if self.executor_config is not None:
            args["executor_config"] = dict(self.executor_config)
        return args


class Resources(Declared):
    """Where Airflow runs the tasks of each stage."""

    default: StageResources | None = Field(default=None, description="all tasks of the loop")
    ingest: StageResources | None = Field(default=None, description="tasks that take, validate and publish a partition")
    score: StageResources | None = Field(default=None, description="the task that predicts a partition")
    watch: StageResources | None = Field(default=None, description="tasks that judge a scored partition, and decide")
    nightly: StageResources | None = Field(default=None, description="tasks that run by the clock")
    train: StageResources | None = Field(default=None, description="tasks of a training, its fits as well")
    fit: StageResources | None = Field(default=None, description="the fits alone")
    rollout: StageResources | None = Field(default=None, description="tasks of a rollout")
    control: StageResources | None = Field(default=None, description="the task by which a person acts on the loop")

    @model_validator(mode="after")
    def _require_pools_of_slots(self) -> Resources:
        for stage in type(self).model_fields:
            declared = getattr(self, stage)
            if declared is not None and declared.slots is not None and "pool" not in self.task_args(stage):
                raise DeclarationError(
                    f"{declared.slots} slots are of no pool; declare the pool of this stage, or of default, as well",
                    key=f"resources.{stage}.slots",
                )
        return self

    def task_args(self, stage: str) -> dict[str, Any]:
        """Return the arguments that operators of a stage get from here.

        Parameters
        ----------
        stage : str
            A key of this section.
        """
        above = {"fit": ("default", "train")}.get(stage, ("default",))
        declared = [getattr(self, name) for name in dict.fromkeys((*above, stage))]
        return {name: value for each in declared if each is not None for name, value in each.task_args.items()}

    def pools(self) -> dict[str, int]:
        """Return the most slots that one task takes of each declared pool."""
        most: dict[str, int] = {}
        for stage in type(self).model_fields:
            args = self.task_args(stage)
            if "pool" in args:
                most[args["pool"]] = max(most.get(args["pool"], 1), args.get("pool_slots", 1))
        return most
