"""The section ``retrain``: the policy that triggers a retrain, its limits, and what a candidate must show."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

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
    cooldown: int = Field(default=2, ge=0, description="partitions between two retrains; 1 by default under a regret")
    budget: int = Field(
        default=13, ge=1, description="promotions for every 52 partitions; 26 by default under a regret"
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | Literal["none"] = Field(
        default=0.8,
        description="one-sided confidence with which a candidate must be better than the champion on the holdout, in "
        "the loop's metric; a gate that compares the two takes its place, and ``none`` switches it off",
    )
    recall: int = Field(
        default=8,
        ge=0,
        description="number of earlier champions, the newest ones, that are candidates of a training beside its fits; "
        "0, and confidence: none, switch recall off",
    )

    @property
    def recallable(self) -> int:
        """Largest number of earlier champions that are tried: none where no evidence is asked, or luck would choose."""
        return 0 if self.confidence == "none" else self.recall

    @model_validator(mode="before")
    @classmethod
    def _protect_a_regret_without_slowing_it(cls, fields: Any) -> Any:
        # A regret adds up to its cost before it retrains, so it has a pace of its own that no limit should set.
        if not isinstance(fields, Mapping):
            return fields
        policy = fields.get("policy")
        by_regret = isinstance(policy, Regret) or (isinstance(policy, Mapping) and "regret" in policy)
        return {**({"cooldown": 1, "budget": 26} if by_regret else {}), **fields}
