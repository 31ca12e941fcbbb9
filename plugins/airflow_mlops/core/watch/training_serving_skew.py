"""Training-serving skew: differences between the features of single rows and those of a whole partition.

Training and batch scoring make the features of a whole partition at once, serving makes those of one row. A
function that takes a mean over its frame gives other features then, and the model answers a question it was
never taught. Here rows that were scored go both ways once more, and every value is compared: features bit for
bit, predictions up to ``ULPS`` units in the last place of the largest one, because libraries add up one row and
many rows in another order. The batch is held against the predictions that were logged at the time, too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.data.frame_types import frame_of
from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import NotReadyError, TrainingError
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.prediction_columns import stored_predictions
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.window import pin_scored, read_partition
from airflow_mlops.core.workspace import Workspace

ULPS = 256
"""How far two predictions of the same row may lie apart, in units in the last place of the largest prediction."""


@dataclass(frozen=True)
class Difference:
    """The first place where two ways disagree.

    ``what`` is ``feature``, ``prediction`` or ``logged prediction``; ``together`` is the value of the whole
    batch, ``apart`` the value of the row alone, or the logged one; both as Python shows them.
    """

    what: str
    column: str
    key: str
    together: str
    apart: str

    def __str__(self) -> str:
        other = "logged" if self.what == "logged prediction" else "alone"
        return f"{self.what} {self.column!r} of {self.key!r} is {self.together} in the batch and {self.apart} {other}"


@dataclass(frozen=True)
class SkewReport:
    """The result of a replay. ``difference`` is None where every value agreed."""

    partition: str
    version: str
    rows: int
    features: int
    difference: Difference | None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


class SkewError(TrainingError):
    """Features or predictions of a row depend on how the row came to the model."""


def replay_rows(workspace: Workspace, partition: str | None = None, *, rows: int = 200) -> SkewReport:
    """Compare features and predictions of rows of a scored partition, made one by one and all together.

    Parameters
    ----------
    partition : str, optional
        A partition that was scored; the newest one if not given.
    rows : int, default 200
        How many rows go alone, spread evenly over the partition. The logged predictions of all are compared.

    Raises
    ------
    NotReadyError
        If the partition was not scored.
    """
    if workspace.loop.train.quantiles:
        raise NotReadyError(
            f"{workspace.loop.model}: train.quantiles declares several, and rows are compared by one number only"
        )
    state = workspace.state()
    key = partition or state.scored.newest() or ""
    scored = state.require_scored(key)
    champion = state.versions[scored.champion]
    pin = pin_scored(state, key)
    frame = read_partition(workspace, pin, label=False)
    replay = _Replay(
        FeatureMaker(workspace, version_schema(workspace, champion)), pin, frame, load_version(workspace, champion)
    )
    logged = frame_of(workspace.predictions.read(key, version=scored.version))
    positions = np.unique(np.linspace(0, len(frame) - 1, min(rows, len(frame))).round().astype(int))
    difference = replay.first_row_difference(positions.tolist()) or replay.first_logged_difference(logged)
    return SkewReport(key, champion.number, len(positions), replay.features.shape[1], difference)


def require_no_skew(report: SkewReport) -> None:
    """Raise :class:`SkewError` if the report has a difference."""
    if report.difference is not None:
        raise SkewError(f"{report.partition}, version {report.version}: {report.difference}")


class _Replay:
    """The features and predictions of a whole partition, to compare others with."""

    def __init__(self, maker: FeatureMaker, pin: PinnedPartition, frame: pd.DataFrame, model: Any) -> None:
        self.loop, self.pin, self.whole, self.model = maker.workspace.loop, pin, frame, model
        self.maker = maker
        self.features = self.maker.make(frame, pin.partition, pin.version)
        self.predictions = predict(model, self.features, classifies=self.loop.classifies)
        self.step = ULPS * float(np.spacing(np.abs(self.predictions).max()))

    def first_row_difference(self, positions: list[int]) -> Difference | None:
        """Return the first difference of a row made alone, in its features or in its prediction."""
        for at in positions:
            row = self.whole.iloc[[at]].reset_index(drop=True)
            key = str(row[self.loop.data.key].iloc[0])
            try:
                alone = self.maker.make(row, self.pin.partition, self.pin.version)
            except TrainingError as error:
                return Difference("feature", "any", key, "made", f"not made: {error}")
            difference = first_difference(self.features.iloc[[at]].reset_index(drop=True), alone, key)
            if difference is not None:
                return difference
            prediction = predict(self.model, alone, classifies=self.loop.classifies)[0]
            if not self._agree(prediction, at):
                return self._prediction_difference("prediction", key, self.predictions[at], prediction)
        return None

    def first_logged_difference(self, logged: pd.DataFrame) -> Difference | None:
        """Return the first difference from the predictions that were logged for the champion."""
        champion = stored_predictions(logged, "champion", self.loop.class_names)
        predictions = dict(zip(logged["key"], champion, strict=True))
        for at, key in enumerate(self.whole[self.loop.data.key].astype(str)):
            prediction = predictions.get(key)
            if prediction is None or not self._agree(prediction, at):
                return self._prediction_difference("logged prediction", key, self.predictions[at], prediction)
        return None

    def _agree(self, prediction: Any, at: int) -> bool:
        """Return whether a prediction is that of a row in the batch, of three classes or more in every class."""
        return bool(np.all(np.abs(prediction - self.predictions[at]) <= self.step))

    def _prediction_difference(self, what: str, key: str, together: Any, other: Any) -> Difference:
        value = "not there" if other is None else repr(np.asarray(other).tolist())
        return Difference(what, self.loop.data.label, key, repr(np.asarray(together).tolist()), value)


def first_difference(together: pd.DataFrame, alone: pd.DataFrame, key: str) -> Difference | None:
    """Return the first feature of a row that differs when made alone: missing, added, or of another value.

    Numbers are compared bit for bit as 64-bit floats, whole numbers and truth values included, since that is
    what a model is given; two nulls are equal.
    """
    for name in dict.fromkeys([*together.columns, *alone.columns]):
        if name not in alone.columns or name not in together.columns:
            batch_state, single_state = ("there", "missing") if name in together.columns else ("missing", "there")
            return Difference("feature", str(name), key, batch_state, single_state)
        batch_value, single_value = together[name].iloc[0], alone[name].iloc[0]
        if not is_identical(batch_value, single_value):
            return Difference("feature", str(name), key, format_value(batch_value), format_value(single_value))
    return None


def is_identical(first: Any, second: Any) -> bool:
    """Return whether two values are the same to the last bit, or both null."""
    if pd.isna(first) or pd.isna(second):
        return bool(pd.isna(first) and pd.isna(second))
    if isinstance(first, float | np.floating) or isinstance(second, float | np.floating):
        try:
            pair: Floats = np.array([first, second], np.float64)
        except (TypeError, ValueError):
            return False
        return pair[:1].tobytes() == pair[1:].tobytes()
    return bool(first == second)


def format_value(value: Any) -> str:
    """Return the ``repr`` of a value, without the name of a library's type."""
    return repr(value.item() if isinstance(value, np.generic) else value)
