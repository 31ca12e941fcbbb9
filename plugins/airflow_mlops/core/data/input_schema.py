"""The input schema of a model version: the columns that it may see, and the levels of its categories.

The dtype of a category names its levels, so it depends on the contract and on the version: declared levels come from
the contract, others from the rows that the version is fitted on. Both are recorded with the version, and every place
that makes features for it uses the recorded ones, whatever the contract says by then. A value that is none of the
levels is null for the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.errors import DataError, TrainingError

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.workspace import Workspace

MAX_LEVELS = 1_000
"""Most levels that a category may have in a training window; they are stored with every version."""
MAX_LENGTH = 200
"""Most characters of such a level."""
SHOWN_LEVELS = 10


class UnseenValueError(DataError):
    """A row has a value that is none of the levels of the version that has to predict it."""


@dataclass(frozen=True)
class InputSchema:
    """The columns that a model may see.

    Parameters
    ----------
    hidden : frozenset of str
        Columns that it does not see.
    levels : mapping of str to tuple of str
        Levels of its categories by column; any other column of text stays text.
    """

    hidden: frozenset[str] = frozenset()
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def with_categories(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return rows with the categories as pandas categoricals, whose dtype does not depend on the rows."""
        columns = {name: self._categorical(rows, name) for name in self.levels if name in rows.columns}
        return rows.assign(**columns) if columns else rows

    def unseen(self, rows: pd.DataFrame) -> dict[str, int]:
        """Return the number of rows with a value that is none of the levels, by column; columns without are left out.

        Parameters
        ----------
        rows : DataFrame
            Rows with the categories as text.
        """
        counts = {name: int(self._is_unseen(rows, name).sum()) for name in self.levels if name in rows.columns}
        return {name: count for name, count in counts.items() if count}

    def refuse_unseen(self, rows: pd.DataFrame, columns: Iterable[str], *, number: str, where: str = "") -> None:
        """Raise UnseenValueError if a row has a value that is none of the levels.

        Parameters
        ----------
        rows : DataFrame
            Rows with the categories as text.
        columns : iterable of str
            Columns to check: those with ``unseen: error`` in the contract.
        number : str
            Number of the version, for the message.
        where : str
            Name of the partition, for the message.

        Raises
        ------
        UnseenValueError
            For the first column with such a value; the message has the column, the value and what to do.
        """
        for name in sorted(set(columns) & self.levels.keys() & set(rows.columns)):
            mask = self._is_unseen(rows, name)
            if mask.any():
                value = str(rows[name].iloc[int(mask.argmax())])
                place = f"{where}: {int(mask.sum()):,} rows: " if where else ""
                raise UnseenValueError(f"{place}{unseen_sentence(name, value, number, self.levels[name])}")

    @cached_property
    def known(self) -> dict[str, frozenset[str]]:
        """The levels of each category as a set."""
        return {name: frozenset(levels) for name, levels in self.levels.items()}

    @cached_property
    def _dtypes(self) -> dict[str, pd.CategoricalDtype]:
        return {name: category_dtype(levels) for name, levels in self.levels.items()}

    def _categorical(self, rows: pd.DataFrame, name: str) -> pd.Categorical:
        return pd.Categorical.from_codes(self._codes(rows, name).tolist(), dtype=self._dtypes[name])

    def _codes(self, rows: pd.DataFrame, name: str) -> npt.NDArray[np.intp]:
        codes: npt.NDArray[np.intp] = self._dtypes[name].categories.get_indexer(pd.Index(rows[name]))
        return codes

    def _is_unseen(self, rows: pd.DataFrame, name: str) -> npt.NDArray[np.bool_]:
        return (self._codes(rows, name) < 0) & rows[name].notna().to_numpy(bool)


def category_dtype(levels: Iterable[str]) -> pd.CategoricalDtype:
    """Return the dtype of a category, its levels as text even where there are none."""
    return pd.CategoricalDtype(pd.Index(list(levels), dtype="str"))


def unseen_sentence(column: str, value: str, number: str, levels: tuple[str, ...]) -> str:
    """Return why a value is refused under ``unseen: error``, and what to do."""
    shown = value if len(value) <= 60 else f"{value[:60]}…"
    listed = ", ".join(map(repr, levels[:SHOWN_LEVELS])) + (", …" if len(levels) > SHOWN_LEVELS else "")
    return (
        f"column {column!r} has the value {shown!r}, which is none of the {len(levels):,} levels of version {number} "
        f"({listed or 'none'}), and the contract says unseen: error; correct the value, retrain on rows that have it, "
        "or declare unseen: null"
    )


def version_schema(workspace: Workspace, version: Version) -> InputSchema:
    """Return the input schema of a version: a version keeps what it was fitted on until it is replaced.

    A column is hidden from it if it is hidden now, and was at the fit.
    """
    return served_schema(workspace, version.details.hidden, version.details.levels)


def served_schema(
    workspace: Workspace, hidden: Iterable[str] | None, levels: Mapping[str, Iterable[str]] | None
) -> InputSchema:
    """Return the input schema of a version from what was recorded at its fit; None where it was not recorded."""
    now = workspace.hidden
    recorded = {name: tuple(values) for name, values in (levels or {}).items()}
    return InputSchema(now if hidden is None else now.intersection(hidden), recorded)


def contract_schema(workspace: Workspace) -> InputSchema:
    """Return the input schema that the contract alone gives: a category without declared levels stays text."""
    contract = workspace.contract
    if contract is None:
        return InputSchema(workspace.hidden)
    levels = {name: contract.columns[name].levels for name in model_categories(workspace)}
    return InputSchema(workspace.hidden, {name: values for name, values in levels.items() if values is not None})


def model_categories(workspace: Workspace) -> tuple[str, ...]:
    """Return the categories of the contract that a model may see, sorted by name."""
    contract, data = workspace.contract, workspace.loop.data
    if contract is None:
        return ()
    seen = contract.columns.keys() - workspace.hidden - data.key_and_time - {data.label}
    return tuple(sorted(name for name in seen if contract.columns[name].type == "category"))


def open_categories(workspace: Workspace) -> tuple[str, ...]:
    """Return the categories that a model may see and whose levels the contract does not declare, sorted by name."""
    contract = workspace.contract
    return tuple(name for name in model_categories(workspace) if contract and contract.columns[name].levels is None)


def refused_columns(workspace: Workspace) -> tuple[str, ...]:
    """Return the categories whose unseen values are refused."""
    contract = workspace.contract
    return tuple(name for name in model_categories(workspace) if contract and contract.columns[name].unseen == "error")


def levels_of(frames: Iterable[pd.DataFrame], name: str) -> tuple[str, ...]:
    """Return the levels of a column of text: its values, in the order of their code points.

    Raises
    ------
    TrainingError
        If there are more than ``MAX_LEVELS``, or one is longer than ``MAX_LENGTH``.
    """
    values: set[str] = set()
    for frame in frames:
        values.update(map(str, frame[name].dropna().unique()))
    long = next((value for value in sorted(values) if len(value) > MAX_LENGTH), None)
    if long is not None:
        raise TrainingError(
            f"column {name!r} has a value of {len(long):,} characters in the training window, which begins with "
            f"{long[:40]!r}, and a level has at most {MAX_LENGTH}; declare type: text, or shorten it in the source"
        )
    if len(values) > MAX_LEVELS:
        raise TrainingError(
            f"column {name!r} has {len(values):,} different values in the training window, and a category has at most "
            f"{MAX_LEVELS:,} levels; declare type: text, or group the values in the source"
        )
    return tuple(sorted(values))
