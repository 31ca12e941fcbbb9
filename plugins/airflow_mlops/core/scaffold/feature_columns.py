"""Choose the columns that a drafted training function uses."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts, is_category
from airflow_mlops.core.data.drafting.learn_columns import LearnedTable
from airflow_mlops.core.data.drafting.suggest_contract import ContractDraft
from airflow_mlops.core.declaration.arrow_types import is_number, is_text
from airflow_mlops.core.errors import DeclarationError


@dataclass(frozen=True)
class FeatureColumns:
    """The columns that the drafted training function uses, by their names in the contract."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, table: LearnedTable, contract: ContractDraft, taken: set[str]) -> FeatureColumns:
        """Return the features among the columns that have no role and are not personal.

        Raises
        ------
        DeclarationError
            If there is none.
        """
        free = [
            column
            for column in table.columns.values()
            if column.name not in taken and column.name not in contract.personal and not column.unsupported
        ]
        numbers = [column.name for column in free if is_feature_number(column)]
        categories = [column.name for column in free if is_text(column.kind) and is_category(column)]
        if not numbers and not categories:
            raise DeclarationError(
                "no column is left for the model to see: it takes numbers, truth values and texts with few values that "
                f"are neither key, time, label nor personal; the file has {', '.join(table.columns)}"
            )
        unused = [column.name for column in free if column.name not in (*numbers, *categories)]
        remark = f"the model does not see {', '.join(unused)}: neither numbers nor texts with few values"
        names = contract.names
        return cls(
            tuple(names[name] for name in numbers),
            tuple(names[name] for name in categories),
            (remark,) if unused else (),
        )


def is_feature_number(column: ColumnFacts) -> bool:
    """Return whether a column holds numbers or truth values, and any value at all."""
    return column.nulls < column.rows and (is_number(column.kind) or bool(pa.types.is_boolean(column.kind)))
