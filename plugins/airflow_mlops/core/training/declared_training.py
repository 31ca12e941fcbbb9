"""What a user declares about training: the function, the partitions, the place, and the limits of a fit."""

from typing import Annotated, Literal

from pydantic import Field

from airflow_mlops.core.declared import Cron, Declared, Reference, section


class FitLimits(Declared):
    """What one fit may take. With a limit, a fit runs in a process of its own, which is stopped beyond it."""

    minutes: float | None = Field(default=None, gt=0, description="of wall time; unlimited if not given")
    memory_mb: int | None = Field(default=None, ge=64, description="of resident memory; unlimited if not given")


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
    image: str = Field(min_length=1, description="container image that holds the package without Airflow")
    role: str = Field(min_length=1, description="ARN of the role of the job")
    storage: str = Field(pattern=r"^s3://[^/]+(/.*)?$", description="where rows go and the model comes back")
    instance_type: str = Field(default="ml.m5.xlarge", description="of the one instance")
    volume_gb: int = Field(default=30, ge=1, description="disk of the instance")
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
    )  # fmt: skip
    limits: FitLimits = section("what one fit may take")

    @property
    def first_at(self) -> int:
        """Published partitions that the first training waits for."""
        fitted = self.at_least or (self.window if isinstance(self.window, int) else 1)
        return fitted + self.holdout
