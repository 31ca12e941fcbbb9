"""The base of every declared section, and the constrained types of its fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _require_zone(name: str) -> str:
    if name == "UTC":
        return name
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # here, as most loops tick in UTC

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"is no time zone of the IANA database; write one such as Europe/Berlin{_meant(name)}"
        ) from None
    return name


def _meant(name: str) -> str:
    """Return the zone with a similar name, for a message."""
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    close = get_close_matches(name, sorted(available_timezones()), n=1, cutoff=0.7)
    return f"; is {close[0]} meant?" if close else ""


# Patterns list their letters: \w and \d match every script, and compiling them costs milliseconds of each Dag parse.
Share = Annotated[int, Field(ge=1, le=100, description="percent")]
Reference = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", description="module:name")
]
Cron = Annotated[
    str,
    Field(pattern=r"^(@(hourly|daily|weekly|monthly|quarterly|yearly)|[0-9*/,#?A-Za-z-]+( [0-9*/,#?A-Za-z-]+){4})$"),
]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Zone = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"), AfterValidator(_require_zone)]
# A list in YAML is a tuple here, so that a declaration is immutable and hashable as a whole.
Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


class Declared(BaseModel):
    """Base of every declared section: strict, immutable, closed to unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False, defer_build=True
    )


def section(description: str) -> Any:
    """Return the field of an optional section, whose keys all have defaults.

    The default is an empty mapping, validated on use: a model built on import would cost every Dag parse.
    """
    return Field(default={}, validate_default=True, description=description)
