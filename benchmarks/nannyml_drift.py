"""The peer: NannyML's univariate drift, as it comes, in an environment of its own.

``.venv-nannyml/bin/python -m benchmarks.nannyml_drift REFERENCE CURRENT`` prints the CPU seconds of fitting the
calculator on the reference and of judging the current rows by it, and how many of them the second took. Both samples
are in memory before the clock starts.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")

import nannyml as nml  # noqa: E402
import pandas as pd  # noqa: E402

from airflow_mlops.testing.peak_memory import peak_mb  # noqa: E402


def main() -> None:
    """Judge the current rows, and print the cost."""
    reference, current = (pd.read_parquet(path) for path in sys.argv[1:3])
    calculator = nml.UnivariateDriftCalculator(column_names=list(reference.columns))
    began = time.process_time()
    calculator.fit(reference)
    fitted = time.process_time()
    calculator.calculate(current).to_df()
    ended = time.process_time()
    spent = {"cpu": ended - began, "current": ended - fitted}
    print(json.dumps({**spent, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
