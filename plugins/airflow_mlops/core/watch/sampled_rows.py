"""Samples of rows for the checks: keys, features, labels and the champion's predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.training.row_losses import Floats

Of = TypeVar("Of")


@dataclass(frozen=True)
class SampledRows:
    """Rows of a partition, in the order of their keys; all arrays have the shape (n_rows,).

    Parameters
    ----------
    keys : array of str
        Keys of the rows.
    features : DataFrame
        Features, as a model gets them.
    label : array of float
        NaN where a row has none, or where labels were not read.
    predict : callable
        The champion's predict function over features.
    logged : array of float, optional
        The champion's predictions when the rows were scored, with three classes or more of shape (n_rows, n_classes);
        without them the champion predicts the rows again.
    """

    partition: str
    keys: npt.NDArray[Any]
    features: pd.DataFrame
    label: Floats
    predict: Callable[[pd.DataFrame], Floats]
    logged: Floats | None = None

    @cached_property
    def predictions(self) -> Floats:
        """The champion's predictions."""
        return self.predict(self.features) if self.logged is None else self.logged

    @cached_property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows with a label."""
        return np.isfinite(self.label)

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Reference:
    """Samples of a champion's training window and of its holdout, oldest first.

    ``unread`` has, by partition, the reason why it cannot be read any more.
    """

    fitted: tuple[SampledRows, ...]
    holdout: tuple[SampledRows, ...]
    unread: dict[str, str]

    @property
    def windows(self) -> tuple[SampledRows, ...]:
        """All partitions that can be read, oldest first.

        Raises
        ------
        NotReadyError
            If there is none.
        """
        windows = (*self.fitted, *self.holdout)
        if not windows:
            raise NotReadyError(f"no partition that the champion was made of can be read: {self.unread}")
        return windows

    @property
    def held_out(self) -> SampledRows:
        """The labelled rows of the holdout together, predicted by the champion that never saw them.

        Raises
        ------
        NotReadyError
            If there is none.
        """
        labelled = [(rows, rows.labelled) for rows in self.holdout if rows.labelled.any()]
        if not labelled:
            raise NotReadyError("no labelled row of the champion's holdout can be read")
        features = pd.concat([rows.features[mask] for rows, mask in labelled], ignore_index=True)
        return SampledRows(
            partition=labelled[-1][0].partition,
            keys=np.concatenate([rows.keys[mask] for rows, mask in labelled]),
            features=features,
            label=np.concatenate([rows.label[mask] for rows, mask in labelled]),
            predict=labelled[0][0].predict,
        )


def sample_positions(rows: int, most: int, digest: str) -> npt.NDArray[np.int64]:
    """Return ascending positions of at most ``most`` of ``rows`` rows, the same for the same digest."""
    if rows <= most:
        return np.arange(rows)
    source = np.random.default_rng(int(hashlib.sha256(digest.encode()).hexdigest()[:16], 16))
    return np.sort(source.permutation(rows)[:most])


def spread_evenly(items: Sequence[Of], most: int) -> list[Of]:
    """Return at most ``most`` items at even distances, the first and the last among them.

    >>> spread_evenly([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[place] for place in places]
