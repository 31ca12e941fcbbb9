"""Fit in the calling process: no child process, no file but the model's."""

from __future__ import annotations

from airflow_mlops.core.ports.fit_request import FitRequest, FitResult
from airflow_mlops.core.ports.fit_rows import RowsToFit
from airflow_mlops.core.training.fit_estimator import fit_request


class InProcessStep:
    """Fits in this process; a :class:`~airflow_mlops.core.ports.step_runner.StepRunner` without limits."""

    def fit(self, request: FitRequest, rows: RowsToFit) -> FitResult:
        """Fit a candidate in this process; see the port."""
        return fit_request(request, rows.load())

    def stop(self) -> None:
        """Do nothing: the fit ends with this process."""
