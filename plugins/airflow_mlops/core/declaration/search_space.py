"""The part ``train.search.optuna``: spaces of parameters that Optuna searches, by the names of candidates."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airflow_mlops.core.declaration.declared import Declared, Listed


class NumberRange(Declared):
    """Numbers between two ends, both of which may be tried."""

    kind: Literal["float", "int"]
    low: float = Field(description="smallest value that is tried; a whole number for ``int``")
    high: float = Field(description="largest value that is tried; a whole number for ``int``")
    log: bool = Field(default=False, description="whether values are spread evenly over their logarithm")

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.kind == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"low and high of kind int are whole numbers, not {self.low:g} and {self.high:g}")
        if self.low >= self.high:
            raise ValueError(f"low must be less than high; they are {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a range with log: true begins above 0, and low is {self.low:g}; raise it")
        return self


class CategoricalValues(Declared):
    """A few values, one of which is tried at a time."""

    kind: Literal["categorical"]
    values: Annotated[tuple[bool | int | float | str | None, ...], Listed] = Field(
        min_length=2, description="the values that are tried: texts, numbers, truth values or null"
    )

    @model_validator(mode="after")
    def _require_different_values(self) -> Self:
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"each value stands once, and 1 and true are one value; there are {list(self.values)}")
        return self


Parameter = Annotated[NumberRange | CategoricalValues, Field(discriminator="kind")]


class OptunaSearch(Declared):
    """The search of Optuna: each trial is chosen by the results of those before it. It needs the extra ``optuna``."""

    trials: int = Field(default=30, ge=2, le=10_000, description="combinations of parameters that are tried")
    sampler: Literal["tpe", "random"] = Field(
        default="tpe", description="``tpe`` learns from the trials before, ``random`` does not; both by ``train.seed``"
    )
    spaces: dict[str, Annotated[dict[str, Parameter], Field(min_length=1)]] = Field(
        min_length=1, description="the parameters that are searched, by candidate and name"
    )
