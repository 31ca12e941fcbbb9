"""The port to a runner that fits candidates."""

from __future__ import annotations

from typing import Protocol

from airflow_mlops.core.ports.fit_request import FitRequest, FitResult
from airflow_mlops.core.ports.fit_rows import RowsToFit


class StepRunner(Protocol):
    """Fits candidates somewhere. The same request on the same rows gives the same model file everywhere."""

    def fit(self, request: FitRequest, rows: RowsToFit) -> FitResult:
        """Fit a candidate, wait, and return the result; the model is then in the file that the request names.

        The rows are loaded where a fit begins, and not where one that runs elsewhere, or has ended there, is adopted.

        Raises
        ------
        TrainingError
            If there is no usable model, because the user's code failed or a limit was exceeded; with the reason.
        DataError
            If the rows cannot be loaded.
        FitStoppedError
            If ``stop`` was called meanwhile.
        """

    def stop(self) -> None:
        """End the fit that is under way, and everything that it has started; without one, do nothing.

        It may be called from a signal handler while ``fit`` waits.
        """
