"""The base of every kind of ledger record: a frozen, versioned dataclass that is read from and written as JSON.

A subclass of :class:`Details` is one kind of record. Defaults are what the field means where a record does not
state it, so records written by earlier releases still read; ``earlier_forms`` rewrites those whose kind has changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import msgspec

from airflow_mlops.core.errors import LedgerError

SCHEMA = "schema"
"""Key under which a record's JSON states the version of its form; records without it are of the first form, 0."""

WRITTEN_LATER = "a later release wrote it: install that release, or a later one"
"""What to do about a record that this release does not know; reading a part of it would decide on a part."""


def _plain_text(value: Any) -> str:
    """Return a text whose class adds to ``str``, such as the name of a user's metric, as plain text."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} is no JSON value")


@dataclass(frozen=True, kw_only=True)
class Details:
    """The content of a record beside its number, partition, actor and evidence.

    ``KIND`` is the kind as the ledger stores it, ``SUMMARY`` the kind in a sentence, ``FORM`` the version of the
    dataclass's JSON form. A field whose default is None is left out of the JSON where it is None.
    """

    KIND: ClassVar[str]
    SUMMARY: ClassVar[str]
    FORM: ClassVar[int] = 1

    def to_json(self) -> dict[str, Any]:
        """Return the details as JSON values.

        Raises
        ------
        LedgerError
            If a number is NaN or infinite: no decision may rest on it.
        """
        values = {
            name: value for name, value in msgspec.to_builtins(self, enc_hook=_plain_text).items() if value is not None
        }
        refuse_not_finite(values, self.KIND)
        as_read: dict[str, Any] = json.loads(json.dumps(values))  # lists for tuples, which XCom would mark as such
        return as_read

    def stored(self) -> dict[str, Any]:
        """Return the details as the ledger stores them: JSON values and the version of their form."""
        return {SCHEMA: self.FORM, **self.to_json()}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the details from their stored values.

        Raises
        ------
        LedgerError
            If a field is missing, unknown or of another type, naming it.
        """
        unknown = values.keys() - cls.__dataclass_fields__
        if unknown:
            raise LedgerError(
                f"a record of kind {cls.KIND!r} has fields that this release does not know, "
                f"{', '.join(sorted(unknown))}; {WRITTEN_LATER}"
            )
        try:
            return msgspec.convert(dict(values), cls, strict=False)
        except msgspec.ValidationError as error:
            raise LedgerError(f"a record of kind {cls.KIND!r} cannot be read: {error}") from None


def refuse_not_finite(value: Any, where: str) -> None:
    """Raise :class:`LedgerError` if a number inside ``value`` is NaN or infinite, naming its place ``where``."""
    if isinstance(value, float) and not math.isfinite(value):
        raise LedgerError(f"{where}: {value} is no number a decision can rest on")
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_not_finite(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_not_finite(item, f"{where}[{index}]")
