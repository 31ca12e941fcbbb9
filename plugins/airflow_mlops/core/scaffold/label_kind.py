"""Infer the kind of prediction from the values of a label: a number, 0 or 1, or one of some classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts
from airflow_mlops.core.declaration.arrow_types import is_number, is_text
from airflow_mlops.core.errors import DeclarationError

FEW = 10
"""Number of different whole numbers up to which they may be classes as well."""


@dataclass(frozen=True)
class LabelKind:
    """The kind of prediction, the classes where they are declared, and a remark for each guess."""

    kind: Literal["number", "flag", "classes"]
    classes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """The metric by which models of such a label are compared."""
        return "mae" if self.kind == "number" else "log_loss"


def infer_label_kind(column: ColumnFacts) -> LabelKind:
    """Return the kind of prediction that the values of a column allow.

    Raises
    ------
    DeclarationError
        If the values can be no label; says why, and what to do.
    """
    if column.unsupported or not (is_number(column.kind) or is_text(column.kind) or pa.types.is_boolean(column.kind)):
        kind = column.unsupported or column.kind
        raise _refusal(column, f"holds {kind}, and a label is a number, a truth value or a text with few values")
    if column.null_texts:
        texts = ", ".join(map(repr, column.null_texts))
        raise _refusal(column, f"holds {column.value_type} and the text {texts}; leave these values empty in the file")
    if column.nulls == column.rows:
        raise _refusal(column, "holds no value")
    if pa.types.is_boolean(column.kind):
        return LabelKind("flag")
    return _kind_of_numbers(column) if is_number(column.kind) else _kind_of_texts(column)


def _kind_of_numbers(column: ColumnFacts) -> LabelKind:
    if column.low == column.high:
        raise _refusal(column, f"is {column.low:g} in every row, so there is nothing to learn")
    if column.few_numbers == {0.0, 1.0} and not pa.types.is_decimal(column.kind):
        return LabelKind("flag")
    different = len(column.texts) if column.texts else len(column.few_numbers or ()) or None
    if pa.types.is_integer(column.kind) and different is not None and different <= FEW:
        remark = (
            f"{column.name} has {different} different whole numbers and is predicted as a number; if they are classes, "
            "declare data.classes, gates on log_loss and a classifier"
        )
        return LabelKind("number", remarks=(remark,))
    return LabelKind("number")


def _kind_of_texts(column: ColumnFacts) -> LabelKind:
    if column.texts is None:
        raise _refusal(column, "is text with too many different values to be classes")
    if len(column.texts) < 2:
        raise _refusal(column, f"is {min(column.texts)!r} in every row, so there is nothing to learn")
    classes = tuple(sorted(column.texts))
    remark = f"{column.name} has the classes that the file holds, {', '.join(classes)}; a row with another one is bad"
    if len(classes) == 2:
        remark = f"of the two classes of {column.name}, the probability of {classes[1]!r} is predicted"
    return LabelKind("classes", classes, (remark,))


def _refusal(column: ColumnFacts, reason: str) -> DeclarationError:
    return DeclarationError(f"{column.name!r} cannot be the label: it {reason}; say another with --label", key="label")
