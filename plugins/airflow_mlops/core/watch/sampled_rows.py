"""Samples of rows as checks look at them: keys, features, labels, and what the champion predicts."""

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
        What a model sees of them.
    label : array of float
        NaN where there is none, or none was asked for.
    predict : callable
        The champion: gives predictions of features.
    logged : array of float, optional
        What the champion predicted when they were scored; it predicts them anew where that is not known.
    """

    partition: str
    keys: npt.NDArray[Any]
    features: pd.DataFrame
    label: Floats
    predict: Callable[[pd.DataFrame], Floats]
    logged: Floats | None = None

    @cached_property
    def predictions(self) -> Floats:
        """What the champion predicted for them."""
        return self.predict(self.features) if self.logged is None else self.logged

    @cached_property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Whether a row has a label."""
        return np.isfinite(self.label)

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Reference:
    """What a champion was made of: samples of its training window and of its holdout, oldest first.

    ``unread`` says by partition why one cannot be read any more.
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
        kept = [(one, one.labelled) for one in self.holdout if one.labelled.any()]
        if not kept:
            raise NotReadyError("no labelled row of the champion's holdout can be read")
        features = pd.concat([one.features[has] for one, has in kept], ignore_index=True)
        return SampledRows(
            kept[-1][0].partition, np.concatenate([one.keys[has] for one, has in kept]), features,
            np.concatenate([one.label[has] for one, has in kept]), kept[0][0].predict,
        )  # fmt: skip


def sampled(rows: int, most: int, digest: str) -> npt.NDArray[np.int64]:
    """Return ascending positions of at most ``most`` of ``rows`` rows, the same for the same digest."""
    if rows <= most:
        return np.arange(rows)
    source = np.random.default_rng(int(hashlib.sha256(digest.encode()).hexdigest()[:16], 16))
    return np.sort(source.permutation(rows)[:most])


def evenly(whole: Sequence[Of], most: int) -> list[Of]:
    """Return at most ``most`` of ``whole``, spread over all of it, the first and the last among them.

    >>> evenly([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    places = np.unique(np.linspace(0, len(whole) - 1, min(most, len(whole))).round().astype(int))
    return [whole[place] for place in places]
