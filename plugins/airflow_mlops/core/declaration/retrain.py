"""The section ``retrain``: the policy that triggers a retrain, its cooldown and its budget."""

from typing import Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Declared, section


class Alarm(Declared):
    """The k-of-n rule: how many of the newest windows must alarm."""

    windows: int = Field(default=2, ge=1, description="k: number of windows that must alarm; at most ``of``")
    of: int = Field(default=3, ge=1, description="n: number of the newest windows of this champion that are looked at")

    @model_validator(mode="after")
    def _require_windows_within_of(self) -> Self:
        if self.windows > self.of:
            raise ValueError(f"windows ({self.windows}) must not exceed of ({self.of})")
        return self


class Clock(Declared):
    """Retrain after a fixed number of partitions since the last retrain."""

    clock: int = Field(ge=1, description="partitions")
    or_alarm: bool = Field(default=False, description="also retrain as soon as k of n windows alarm")


class Regret(Declared):
    """Retrain once the champion's summed loss against a fresh model exceeds the cost of a promotion."""

    regret: float = Field(
        gt=0, description="cost of a promotion, in units of the loss of a fresh model on one partition"
    )
    or_alarm: bool = Field(default=False, description="also retrain as soon as k of n windows alarm")


class Retrain(Declared):
    """When a new model is worth its cost."""

    policy: Literal["alarm", "never"] | Clock | Regret = Field(
        default="alarm", description="what triggers a retrain; ``never`` leaves it to a person"
    )
    alarm: Alarm = section("how many windows must alarm")
    cooldown: int = Field(default=2, ge=0, description="partitions between two retrains")
    budget: int = Field(default=13, ge=1, description="promotions for every 52 partitions")
