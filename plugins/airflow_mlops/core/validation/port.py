"""What the loop needs from a validation engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from airflow_mlops.core.validation.suite import Expectation, ExpectationResult


class Validator(Protocol):
    """Checks expectations on a table."""

    def check(self, rows: pa.Table, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
        """Return one result for each expectation, in order.

        Raises
        ------
        PartitionRefusedError
            If the engine could not evaluate an expectation: that is not the same as failed data.
        """
