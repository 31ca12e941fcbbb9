"""What training needs from outside: a place where a candidate is fitted."""

from __future__ import annotations

from typing import Protocol

from airflow_mlops.core.ports.fit_request import FitRequest, FitResult
from airflow_mlops.core.ports.fit_rows import FitRows


class StepRunner(Protocol):
    """Fits candidates somewhere. The same request on the same rows gives the same model file everywhere."""

    def fit(self, request: FitRequest, rows: FitRows) -> FitResult:
        """Fit, wait for it, and return the result; the model is then in the file that the request names.

        Raises
        ------
        TrainingError
            With the reason in words, if there is no usable model: the user's code failed, or a limit was met.
        FitStoppedError
            If ``stop`` was called meanwhile.
        """

    def stop(self) -> None:
        """End the fit that is under way, and everything that it has started; without one, do nothing.

        It may be called from the handler of a signal, while ``fit`` waits.
        """
