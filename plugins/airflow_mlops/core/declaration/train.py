"""What a user declares about training: the function, the partitions, the place, and the limits of a fit."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Cron, Declared, Reference, section


class FitLimits(Declared):
    """What one fit may take. With a limit, a fit runs in a process of its own, which is killed beyond it."""

    minutes: float | None = Field(
        default=None, gt=0, le=28 * 24 * 60, description="of wall time for each candidate; unlimited if not given"
    )
    memory_mb: int | None = Field(
        default=None,
        ge=64,
        description="of resident memory, of the fit and all processes it starts; unlimited if not given",
    )


class Search(Declared):
    """How parameters are searched for a candidate that comes with a search space: by successive halving."""

    candidates: int = Field(default=27, ge=2, le=10_000, description="combinations of parameters that are tried")
    factor: int = Field(default=3, ge=2, le=10, description="one in so many is taken on into the next round")
    validation: int = Field(
        default=20,
        ge=1,
        le=90,
        description="percent of the fitted rows, the newest ones, that combinations are judged on",
    )


class InWorker(Declared):
    """Candidates are fitted where the task runs."""

    kind: Literal["worker"] = "worker"


class InInterpreter(Declared):
    """Candidates are fitted by another Python on the worker's machine, with packages of its own."""

    kind: Literal["interpreter"]
    python: str = Field(min_length=1, description="path of the interpreter, below the project folder or absolute")


class OnSageMaker(Declared):
    """Candidates are fitted by a SageMaker training job."""

    kind: Literal["sagemaker"]
    image: str = Field(
        min_length=1, max_length=255, description="container image with Python and requirements-step.lock installed"
    )
    role: str = Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", description="ARN of the role of the job")
    storage: str = Field(pattern=r"^s3://[^/]+(/.*)?$", description="where rows go and the model comes back")
    instance_type: str = Field(
        default="ml.m5.xlarge", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$", description="of the one instance"
    )
    volume_gb: int = Field(default=30, ge=1, le=16_384, description="disk of the instance")
    connection: str = Field(default="aws_default", description="Airflow connection of type aws")


RunsOn = Annotated[InWorker | InInterpreter | OnSageMaker, Field(discriminator="kind")]


class Train(Declared):
    """Which function gives the candidates, and on which partitions they are fitted."""

    function: Reference
    window: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        default="all", description="newest partitions that a model is fitted on, those of the holdout not counted"
    )
    at_least: int | None = Field(
        default=None, ge=1, description="partitions before the first training; the window if that is a number"
    )
    holdout: int = Field(default=1, ge=1, description="newest partitions, kept for the gates")
    at: Cron = Field(default="0 2 * * *", description="cron expression of the nightly decision")
    seed: int = Field(default=0, description="what the training function is called with")
    runs_on: RunsOn = Field(
        default={"kind": "worker"}, validate_default=True, description="where candidates are fitted"
    )
    limits: FitLimits = section("what one fit may take")
    search: Search = section("how parameters are searched, where a candidate comes with a search space")

    @model_validator(mode="after")
    def _limits_that_can_be_kept(self) -> Self:
        if isinstance(self.runs_on, OnSageMaker) and self.limits.memory_mb is not None:
            raise ValueError("limits.memory_mb cannot be kept on SageMaker; choose an instance_type with that memory")
        return self

    @property
    def first_at(self) -> int:
        """Published partitions that the first training waits for."""
        fitted = self.at_least or (self.window if isinstance(self.window, int) else 1)
        return fitted + self.holdout
