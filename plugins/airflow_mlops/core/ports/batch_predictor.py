"""The port to a predictor of the rows of a partition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.ledger.state_machine import Version


@dataclass(frozen=True)
class RowsToScore:
    """The rows of a published partition, in the order of their keys.

    Parameters
    ----------
    partition, snapshot : str
        Key of the partition, and digest of its content.
    publication : int
        How often the partition was published, from 1.
    keys : list of str
        The key of each row, as text.
    features : callable
        Returns the features, shape (n_rows, n_features); called only where they are needed.
    """

    partition: str
    snapshot: str
    publication: int
    keys: list[str]
    features: Callable[[], pd.DataFrame]


class BatchPredictor(Protocol):
    """Predicts rows somewhere. The same version gives the same numbers for the same rows everywhere."""

    def start(self, version: Version, rows: RowsToScore) -> None:
        """Begin to predict rows, or adopt what an earlier try has begun; ``predict`` waits for it.

        Raises
        ------
        TransformPlaceError
            If there is no machine for it now.
        """

    def predict(self, version: Version, rows: RowsToScore) -> npt.NDArray[np.float64]:
        """Return one prediction for each row, as :func:`airflow_mlops.core.training.predict.predict` does.

        Raises
        ------
        TrainingError
            If the version cannot predict, or what came back is not one finite prediction for each row.
        TransformPlaceError
            If the place has failed: nothing is known about the version.
        TransformUnderWayError
            If it has not ended, and nobody waits.
        """

    def finish(self) -> None:
        """Remove what is left of the predictions, which are recorded now."""

    def stop(self) -> None:
        """End what is under way; without anything, do nothing."""
