"""Each candidate on each declared window: which there are, and which of their windows a model can learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from airflow_mlops.core.declaration.windowed_candidate import windowed_name
from airflow_mlops.core.errors import DataError, TrainingError

T = TypeVar("T")


def candidates_on_windows(estimators: Iterable[str], windows: Mapping[str, T]) -> dict[str, T]:
    """Return the value of each window by the name of each candidate on it.

    >>> candidates_on_windows(["line", "trees"], {"4": 4, "all": 9})
    {'line@4': 4, 'line@all': 9, 'trees@4': 4, 'trees@all': 9}
    """
    return {windowed_name(name, window): value for name in estimators for window, value in windows.items()}


def describe_shorter_windows(
    lengths: Mapping[str, int], longest: dict[str, Any], describe: Callable[[int], dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the description of each window by its name, and the reasons why a model cannot learn from one.

    Parameters
    ----------
    lengths : mapping of str to int
        The number of fitted partitions of each window, the shortest first.
    longest : dict
        The description of the longest of them.
    describe : callable
        Returns the description of a window of so many partitions, or raises the reason why there is none.
    """
    windows: dict[str, dict[str, Any]] = {}
    unusable: dict[str, str] = {}
    for name, length in lengths.items():
        try:
            windows[name] = longest if length == max(lengths.values()) else describe(length)
        except (TrainingError, DataError) as error:
            unusable[name] = str(error)
    return windows, unusable
