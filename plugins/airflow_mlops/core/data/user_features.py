"""Compute features with the user's one function, the same in training, scoring, watching and serving.

    def features(frame): ...
    def features(frame, history): ...

*Argument*: the rows of one partition, ordered by key, with all columns but the label and those that the contract
hides (``feature: false``); categories are pandas categoricals, and key and time are there for look-ups. *Result*: one
row for each row, in the same order and with the same index. Every column of the result but the key and the time is a
feature. Without a function, the features are the columns that a model may see, in the order of their names.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from functools import cached_property
from typing import Any

import pandas as pd

from airflow_mlops.core.data.input_schema import InputSchema, contract_schema
from airflow_mlops.core.data.point_in_time import History, Reads
from airflow_mlops.core.declaration.user_function import load_function, source_digest
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.workspace import Workspace


class FeatureMaker:
    """Computes the features of a loop's rows, and caches the histories that it reads.

    Parameters
    ----------
    workspace : Workspace
        The loop and its stores.
    schema : InputSchema, optional
        The input schema of the version that predicts; by default the one that the contract gives.
    """

    def __init__(self, workspace: Workspace, schema: InputSchema | None = None) -> None:
        self.workspace = workspace
        self.schema = contract_schema(workspace) if schema is None else schema
        self.reference = workspace.loop.data.features
        self._reads: Reads = OrderedDict()
        self._histories: dict[tuple[str, int | None], History] = {}

    def make(self, rows: pd.DataFrame, partition: str, version: int | None = None) -> pd.DataFrame:
        """Return the features of rows of a partition, shape (n_rows, n_features), in the order of the rows.

        Parameters
        ----------
        rows : DataFrame
            The rows, with or without the label, which the function never sees.
        partition : str
            Key of their partition; the history holds the partitions strictly before it.
        version : int, optional
            Version of the partition's snapshot, as of which the history is read.

        Raises
        ------
        TrainingError
            If the function raises, or its result is no valid frame of features; names the function.
        """
        data = self.workspace.loop.data
        visible = [name for name in rows.columns if name not in self.hidden]
        if self.reference is None:
            columns = sorted(name for name in visible if name not in data.key_and_time)
            return self.schema.with_categories(rows[columns])
        frame = self.schema.with_categories(rows[visible].reset_index(drop=True))
        features = self._call(frame.copy(), partition, version)
        self._check(features, len(frame))
        features = features.drop(columns=[name for name in data.key_and_time if name in features.columns])
        if features.shape[1] == 0:
            raise TrainingError(f"{self.reference} gave no features: no column but the key and the time")
        features.index = rows.index
        return features

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Columns that neither a model nor the function sees: label and weight, and those that the contract hides."""
        data = self.workspace.loop.data
        return (self.schema.hidden - data.key_and_time) | {data.label}

    @cached_property
    def _function(self) -> Any:
        return load_function(str(self.reference), self.workspace.root)

    @cached_property
    def _wants_history(self) -> bool:
        return "history" in inspect.signature(self._function).parameters

    def _history(self, partition: str, version: int | None) -> History:
        # The history of a published version never changes, so it is read from the ledger once.
        if version is None:
            return History(self.workspace, partition, reads=self._reads, schema=self.schema)
        at = (partition, version)
        return self._histories.setdefault(at, History(self.workspace, *at, reads=self._reads, schema=self.schema))

    def _call(self, frame: pd.DataFrame, partition: str, version: int | None) -> pd.DataFrame:
        arguments = {"history": self._history(partition, version)} if self._wants_history else {}
        try:
            features = self._function(frame, **arguments)
        except TrainingError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise TrainingError(f"{self.reference} raised {type(error).__name__}: {error}") from error
        if not isinstance(features, pd.DataFrame):
            raise TrainingError(f"{self.reference} gave a {type(features).__name__}; it must give a pandas DataFrame")
        return features

    def _check(self, features: pd.DataFrame, count: int) -> None:
        """Raise TrainingError unless the features have ``count`` rows in order, and valid names of columns."""
        rows = len(features)
        if rows != count:
            raise TrainingError(f"{self.reference} gave {rows:,} rows for {count:,}; it must give one for each")
        order = features.index.to_numpy()
        moved = next((at for at, index in enumerate(order) if index != at), None)
        if moved is not None:
            raise TrainingError(
                f"{self.reference} changed the order or the index of the rows: row {moved} has the index "
                f"{order[moved]!r}; give them back as they came"
            )
        duplicates = features.columns[features.columns.duplicated()]
        if len(duplicates):
            raise TrainingError(f"{self.reference} gave the column {duplicates[0]!r} more than once")
        for name in features.columns:
            if not isinstance(name, str):
                raise TrainingError(f"{self.reference} gave a column called {name!r}; names must be text")
            if name in self.hidden:
                loop = self.workspace.loop
                roles = {loop.data.label: "the label", loop.train.weight: "the weight of a row"}
                role = roles.get(name, "hidden by the contract")
                raise TrainingError(f"{self.reference} gave the column {name!r}, which is {role}")


def features_digest(workspace: Workspace, function: str) -> str:
    """Return the digest of the code of a model: the training function, and the feature function if declared.

    Without ``data.features`` it is the digest of the training function's file alone.
    """
    train = source_digest(function, workspace.root)
    reference = workspace.loop.data.features
    if reference is None:
        return train
    features = source_digest(reference, workspace.root)
    return hashlib.sha256(f"{train} {reference} {features}".encode()).hexdigest()
