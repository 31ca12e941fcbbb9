"""Training-serving skew: do the rows of a partition look the same one by one as they did all together?

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

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
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
    """What a replay found. ``difference`` is None where every value agreed."""

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
    """Return whether rows of a scored partition get the same features and predictions one by one as together.

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
    state = workspace.state()
    key = partition or state.scored.newest() or ""
    scored = state.require_scored(key)
    champion = state.versions[scored.champion]
    pin = pin_scored(state, key)
    whole = read_partition(workspace, pin, label=False)
    replay = _Replay(workspace, pin, whole, load_version(workspace, champion))
    logged = workspace.predictions.read(key, version=scored.version).to_pandas()
    taken = np.unique(np.linspace(0, len(whole) - 1, min(rows, len(whole))).round().astype(int))
    difference = replay.one_by_one(taken.tolist()) or replay.against(logged)
    return SkewReport(key, champion.number, len(taken), replay.features.shape[1], difference)


def require_no_skew(report: SkewReport) -> None:
    """Raise :class:`SkewError` with the first difference, if there is one."""
    if report.difference is not None:
        raise SkewError(f"{report.partition}, version {report.version}: {report.difference}")


class _Replay:
    """A partition's features and predictions together, to hold others against."""

    def __init__(self, workspace: Workspace, pin: PinnedPartition, whole: pd.DataFrame, model: Any) -> None:
        self.loop, self.pin, self.whole, self.model = workspace.loop, pin, whole, model
        self.maker = FeatureMaker(workspace)
        self.features = self.maker.make(whole, pin.partition, pin.version)
        self.predictions = predict(model, self.features, classifies=self.loop.classifies)
        self.step = ULPS * float(np.spacing(np.abs(self.predictions).max()))

    def one_by_one(self, positions: list[int]) -> Difference | None:
        """Return the first difference of rows that go alone: in features, or in what the model makes of them."""
        for at in positions:
            row = self.whole.iloc[[at]].reset_index(drop=True)
            key = str(row[self.loop.data.key].iloc[0])
            try:
                alone = self.maker.make(row, self.pin.partition, self.pin.version)
            except TrainingError as error:
                return Difference("feature", "any", key, "made", f"not made: {error}")
            found = first_difference(self.features.iloc[[at]].reset_index(drop=True), alone, key)
            if found is not None:
                return found
            predicted = predict(self.model, alone, classifies=self.loop.classifies)[0]
            if not abs(predicted - self.predictions[at]) <= self.step:
                return self._of_prediction("prediction", key, self.predictions[at], predicted)
        return None

    def against(self, logged: pd.DataFrame) -> Difference | None:
        """Return the first difference from the predictions that were logged for the champion."""
        known = dict(zip(logged["key"], logged["champion_prediction"], strict=True))
        for at, key in enumerate(self.whole[self.loop.data.key].astype(str)):
            was = known.get(key)
            if was is None or not abs(was - self.predictions[at]) <= self.step:
                return self._of_prediction("logged prediction", key, self.predictions[at], was)
        return None

    def _of_prediction(self, what: str, key: str, together: Any, other: Any) -> Difference:
        shown = "not there" if other is None else repr(float(other))
        return Difference(what, self.loop.data.label, key, repr(float(together)), shown)


def first_difference(together: pd.DataFrame, alone: pd.DataFrame, key: str) -> Difference | None:
    """Return the first feature of a row that is another one alone: missing, added, or of another value.

    Numbers are compared bit for bit as 64-bit floats, whole numbers and truth values included, since that is
    what a model is given; two nulls are equal.
    """
    for name in dict.fromkeys([*together.columns, *alone.columns]):
        if name not in alone.columns or name not in together.columns:
            here, there = ("there", "missing") if name in together.columns else ("missing", "there")
            return Difference("feature", str(name), key, here, there)
        ours, theirs = together[name].iloc[0], alone[name].iloc[0]
        if not same(ours, theirs):
            return Difference("feature", str(name), key, shown(ours), shown(theirs))
    return None


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two values are the same to the last bit, or both null."""
    if pd.isna(ours) or pd.isna(theirs):
        return bool(pd.isna(ours) and pd.isna(theirs))
    if isinstance(ours, float | np.floating) or isinstance(theirs, float | np.floating):
        try:
            pair: Floats = np.array([ours, theirs], np.float64)
        except (TypeError, ValueError):
            return False
        return pair[:1].tobytes() == pair[1:].tobytes()
    return bool(ours == theirs)


def shown(value: Any) -> str:
    """Return a value as Python shows it, without the name of a library's type."""
    return repr(value.item() if isinstance(value, np.generic) else value)
