"""How values are written in a source without types: numbers, truth values and nulls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextForm:
    """The written form of numbers, truth values and nulls.

    Parameters
    ----------
    decimal : str
        Character before the fraction of a number.
    thousands : str, optional
        Character between groups of three digits; None if there is none.
    true, false : tuple of str
        Words for the truth values, in any case.
    nulls : tuple of str, optional
        Texts that mean null; None for those of the contract.
    """

    decimal: str = "."
    thousands: str | None = None
    true: tuple[str, ...] = ("true", "t")
    false: tuple[str, ...] = ("false", "f")
    nulls: tuple[str, ...] | None = None
