"""Features, made by one and the same function wherever rows are used: training, scoring, watching, serving.

    def features(frame): ...
    def features(frame, history): ...

*In*: the rows of one partition, ordered by key, with all columns but the label and those that the contract
hides (``feature: false``); key and time are there, to look things up by. *Out*: one row for each row, in the
same order and with the same index. Every column that comes out is a feature, save the key and the time, which
are left out. Without a function, the features are the columns that a model may see, in order of their names.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from functools import cached_property
from typing import Any

import pandas as pd

from airflow_mlops.core.data.point_in_time import History, Reads
from airflow_mlops.core.declaration.user_function import load_function, source_digest
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.workspace import Workspace


class FeatureMaker:
    """Makes the features of a loop's rows. What its histories read is kept between calls.

    Parameters
    ----------
    workspace : Workspace
        The loop and where its past is kept.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.reference = workspace.loop.data.features
        self._reads: Reads = OrderedDict()
        self._histories: dict[tuple[str, int | None], History] = {}

    def of(self, rows: pd.DataFrame, partition: str, version: int | None = None) -> pd.DataFrame:
        """Return the features of rows of a partition, one row for each, in the same order.

        Parameters
        ----------
        rows : DataFrame
            With or without the label, which the function never sees.
        partition : str
            Where the rows belong; only what lies strictly before it is their past.
        version : int, optional
            Version of the partition's snapshot, which says as of when the past is seen.

        Raises
        ------
        TrainingError
            Naming the function and what is wrong with what it gave.
        """
        data = self.workspace.loop.data
        seen = [name for name in rows.columns if name not in self.hidden]
        if self.reference is None:
            return rows[sorted(name for name in seen if name not in (data.key, data.time))]
        given = rows[seen].reset_index(drop=True)
        made = self._called(given.copy(), partition, version)
        self._check(made, len(given))
        made = made.drop(columns=[name for name in (data.key, data.time) if name in made.columns])
        if made.shape[1] == 0:
            raise TrainingError(f"{self.reference} gave no features: no column but the key and the time")
        made.index = rows.index
        return made

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Columns that neither a model nor the function sees: the label, and what the contract hides."""
        data, contract = self.workspace.loop.data, self.workspace.contract
        return ((contract.hidden if contract else frozenset()) - {data.key, data.time}) | {data.label}

    @cached_property
    def _function(self) -> Any:
        return load_function(str(self.reference), self.workspace.root)

    @cached_property
    def _wants_history(self) -> bool:
        return "history" in inspect.signature(self._function).parameters

    def _history(self, partition: str, version: int | None) -> History:
        # The past of a published version never changes, so the ledger is asked once for it.
        if version is None:
            return History(self.workspace, partition, reads=self._reads)
        at = (partition, version)
        return self._histories.setdefault(at, History(self.workspace, *at, reads=self._reads))

    def _called(self, given: pd.DataFrame, partition: str, version: int | None) -> pd.DataFrame:
        past = {"history": self._history(partition, version)} if self._wants_history else {}
        try:
            made = self._function(given, **past)
        except TrainingError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise TrainingError(f"{self.reference} raised {type(error).__name__}: {error}") from error
        if not isinstance(made, pd.DataFrame):
            raise TrainingError(f"{self.reference} gave a {type(made).__name__}; it must give a pandas DataFrame")
        return made

    def _check(self, made: pd.DataFrame, count: int) -> None:
        if len(made) != count:
            raise TrainingError(f"{self.reference} gave {len(made):,} rows for {count:,}; it must give one for each")
        order = made.index.to_numpy()
        moved = next((at for at, index in enumerate(order) if index != at), None)
        if moved is not None:
            raise TrainingError(
                f"{self.reference} changed the order or the index of the rows: row {moved} has the index "
                f"{order[moved]!r}; give them back as they came"
            )
        twice = made.columns[made.columns.duplicated()]
        if len(twice):
            raise TrainingError(f"{self.reference} gave the column {twice[0]!r} more than once")
        for name in made.columns:
            if not isinstance(name, str):
                raise TrainingError(f"{self.reference} gave a column called {name!r}; names must be text")
            if name in self.hidden:
                what = "the label" if name == self.workspace.loop.data.label else "hidden by the contract"
                raise TrainingError(f"{self.reference} gave the column {name!r}, which is {what}")


def features_digest(workspace: Workspace, function: str) -> str:
    """Return the digest of the code that makes a model: of the training function, and of the features if declared.

    Without ``data.features`` it is the digest of the training function's file alone.
    """
    train = source_digest(function, workspace.root)
    reference = workspace.loop.data.features
    if reference is None:
        return train
    made = source_digest(reference, workspace.root)
    return hashlib.sha256(f"{train} {reference} {made}".encode()).hexdigest()
