"""Measure validating clean data by 20 expectations, against plain Great Expectations in BOOLEAN_ONLY.

1 million rows x 20 columns. Both sides run in turn in one process that has imported everything and is warm,
and the medians of their CPU seconds are compared. The peer is given its data frame ready made, with the suite
in one call; ours gets the Arrow table that a snapshot is read as, so making the frame counts here and not there.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.row import Row

ROUNDS = 7
ROWS = 1_000_000
BAR = 1.2
CODES = ["AA", "BB", "CC", "DD"]


def validate_clean() -> list[Row]:
    """Return the row: CPU seconds of 20 expectations on clean data."""
    warnings.simplefilter("ignore")
    from airflow_mlops.core.validation.gx_validator import GxValidator
    from airflow_mlops.core.validation.suite import Expectation

    expectations = [Expectation(type=name, kwargs=kwargs) for name, kwargs in twenty_expectations()]
    rows = clean_rows()
    frame = rows.to_pandas()
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    ours, peer = [], []
    for number in range(ROUNDS + 1):
        our_seconds = cpu_of(lambda: all(result.success for result in GxValidator().check(rows, expectations)))
        peer_seconds = cpu_of(lambda: meets_expectations(frame))
        if number:  # the first round imports
            ours.append(our_seconds)
            peer.append(peer_seconds)
        print(f"\r    round {number}/{ROUNDS}", end="", flush=True)
    print()
    ratio = median(ours) / median(peer)
    return [
        Row(
            name="validate_clean",
            ours=round(median(ours), 3),
            peer=round(median(peer), 3),
            unit="CPU s",
            peer_name="Great Expectations, BOOLEAN_ONLY, one suite on a ready-made frame",
            ratio=round(ratio, 3),
            bar=f"ours / peer <= {BAR:g}",
            reached=ratio <= BAR,
        )
    ]


def cpu_of(run: Callable[[], bool]) -> float:
    """Return the CPU seconds of a run, which must return True."""
    began = time.process_time()
    succeeded = run()
    seconds = time.process_time() - began
    if not succeeded:
        raise RuntimeError("clean rows did not meet their expectations")
    return seconds


def meets_expectations(frame: Any) -> bool:
    """Return whether the frame meets the expectations, by the code of Great Expectations' manual."""
    import great_expectations as gx
    from great_expectations.expectations.registry import get_expectation_impl

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(
        name="declared", expectations=[get_expectation_impl(name)(**kwargs) for name, kwargs in twenty_expectations()]
    )
    return bool(batch.validate(suite, result_format="BOOLEAN_ONLY").success)


def clean_rows() -> Any:
    """Return 1 million rows: a key, 13 real numbers, 3 small whole numbers, 3 columns of codes."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(20)
    columns = {"id": pa.array(np.arange(ROWS))}
    columns |= {f"x{number}": pa.array(random.normal(size=ROWS)) for number in range(13)}
    columns |= {f"n{number}": pa.array(random.integers(0, 100, ROWS)) for number in range(3)}
    columns |= {f"c{number}": pa.array(random.choice(CODES, ROWS)) for number in range(3)}
    return pa.table(columns)


def twenty_expectations() -> list[tuple[str, dict[str, Any]]]:
    """Return 20 expectations that concern every one of the 20 columns."""
    values = "expect_column_values_to"
    return [
        (f"{values}_be_unique", {"column": "id"}),
        *((f"{values}_not_be_null", {"column": f"x{number}"}) for number in range(5)),
        *(
            (f"{values}_be_between", {"column": f"x{number}", "min_value": -10, "max_value": 10})
            for number in range(5, 10)
        ),
        *(("expect_column_mean_to_be_between", {"column": f"x{number}", "max_value": 1}) for number in range(10, 13)),
        *((f"{values}_be_between", {"column": f"n{number}", "min_value": 0, "max_value": 99}) for number in range(3)),
        *((f"{values}_be_in_set", {"column": f"c{number}", "value_set": CODES}) for number in range(2)),
        (f"{values}_match_regex", {"column": "c2", "regex": "^[A-D]{2}$"}),
    ]


if __name__ == "__main__":
    print(validate_clean())
