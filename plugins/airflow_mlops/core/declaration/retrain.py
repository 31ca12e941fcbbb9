"""What a user declares of retraining: who or what asks for it, and what holds it back."""

from typing import Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Declared, section


class Alarm(Declared):
    """k of n: how many of the newest windows must alarm."""

    windows: int = Field(default=2, ge=1, description="k: so many windows must alarm; at most ``of``")
    of: int = Field(default=3, ge=1, description="n: of so many of the newest windows that this champion scored")

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.windows > self.of:
            raise ValueError(f"windows ({self.windows}) must not exceed of ({self.of})")
        return self


class Clock(Declared):
    """Retrain when so many partitions have passed since the last retrain."""

    clock: int = Field(ge=1, description="partitions")
    or_alarm: bool = Field(default=False, description="also retrain as soon as k of n windows alarm")


class Regret(Declared):
    """Retrain when what the champion has lost against a fresh model, added up, is worth a promotion."""

    regret: float = Field(
        gt=0, description="cost of a promotion, in units of the loss of a fresh model on one partition"
    )
    or_alarm: bool = Field(default=False, description="also retrain as soon as k of n windows alarm")


class Retrain(Declared):
    """When a new model is worth its cost."""

    policy: Literal["alarm", "never"] | Clock | Regret = Field(
        default="alarm", description="what asks for a retrain; ``never`` leaves it to a person"
    )
    alarm: Alarm = section("how many windows must alarm")
    cooldown: int = Field(default=2, ge=0, description="partitions between two retrains")
    budget: int = Field(default=13, ge=1, description="promotions for every 52 partitions")
