"""The check ``multivariate``: can a classifier tell the window's rows from the reference's?

A shift that no column shows by itself, as two columns that went together and go apart, can be learned. Boosted trees
are taught to tell rows of the window from as many of the reference; the measure is the share of pairs (AUC) that they
order rightly among rows they were not taught on, 0.5 where there is nothing to learn. Weeks of the reference can be
told apart too, so each of them is put to the same test against the others, and the window has to be told better.

References
----------
S. Rabanser, S. Günnemann, Z. C. Lipton, NeurIPS 32 (2019), who call it the domain classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import pandas as pd

from airflow_mlops.core.evaluation.roc_auc import auc_components
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks.against_windows import FEWEST_WINDOWS, Estimate, compare, lacking
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import FEWEST_ROWS, CheckTerms
from airflow_mlops.core.watch.checks.encoded_rows import RowEncoder
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow

CLASSIFIED_ROWS = 2_000
"""Rows of either side that a classifier is taught on and tried with."""
BY_CHANCE = Estimate(0.5, 0.0)


def check_multivariate(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Return whether the rows of a window can be told from those of its champion's reference."""
    return judge_telling_apart([one.features for one in window.reference.windows], window.rows.features, terms)


def judge_telling_apart(reference: Sequence[pd.DataFrame], window: pd.DataFrame, terms: CheckTerms) -> CheckResult:
    """Return whether rows can be told from those of the reference.

    The size of a shift is by how much more pairs are in the right order than in the wrong one (2 AUC - 1), beyond what
    it is for the reference's own windows. It is at most twice the total variation distance.

    Parameters
    ----------
    reference : sequence of DataFrame
        Features, one frame for each window of the reference.
    window : DataFrame
        Features of the window to judge.

    Raises
    ------
    NotReadyError
        If no column can be compared.
    """
    if len(window) < FEWEST_ROWS:
        return cannot_tell(f"{len(window)} rows; {FEWEST_ROWS} are needed", rows=len(window), needed=FEWEST_ROWS)
    whole = pd.concat(reference, ignore_index=True)
    encoder = RowEncoder(whole, window)
    parts = [encoder.codes(frame) for frame in reference]
    many = len(parts) >= FEWEST_WINDOWS
    size = min(CLASSIFIED_ROWS, len(window), min(map(len, parts)) if many else len(whole))
    if size < FEWEST_ROWS:
        return cannot_tell(f"a window of the reference has {size} rows; {FEWEST_ROWS} are needed", needed=FEWEST_ROWS)
    auc = told_apart(encoder.codes(window), np.concatenate(parts), size)
    past = [
        told_apart(part, np.concatenate([other for other in parts if other is not part]), size) for part in parts
    ] if many else [BY_CHANCE]  # fmt: skip
    comparison = compare(auc, past)
    verdict, needed = comparison.verdict(rows=size, alarm_rate=terms.alarm_rate, least=terms.min_effect / 2, alike=True)
    if verdict == "no alarm" and comparison.usual + terms.min_effect / 2 > 1:
        verdict, needed = "insufficient data", None  # no window could be told better by that much
    said = (
        f"window and reference are told apart with an AUC of {auc.value:.3f}, "
        f"{f'the {len(parts)} windows of the reference' if many else 'by chance it is'} {comparison.usual:.3f} "
        f"(p = {comparison.p_value:.2g}, {size:,} rows each)"
        f"{lacking(verdict, needed)}{encoder.said}"
    )
    numbers = {**comparison.numbers(), "rows": size, "needed": needed, "columns": len(encoder.columns)}
    return CheckResult(
        verdict, said, {**numbers, "effect": 2 * comparison.difference},
        {"reference": [one.value for one in past], "left_out": encoder.left_out},
    )  # fmt: skip


def told_apart(ours: Floats, theirs: Floats, size: int) -> Estimate:
    """Return the AUC by which rows of two matrices are told apart, ``size`` rows of each.

    Half of the rows teach and the other half tries, and the other way round. As each half's rows take part in both,
    the two values are not independent: the error is that of one of them.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    source = np.random.default_rng(0)
    rows = np.concatenate([part[source.permutation(len(part))[:size]] for part in (ours, theirs)])
    side = np.repeat([1.0, 0.0], size)
    half = np.tile(np.arange(size) % 2, 2)
    values, errors = [], []
    for taught in (0, 1):
        model = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, early_stopping=False, random_state=0)
        model.fit(rows[half == taught], side[half == taught])
        tried = auc_components(side[half != taught], model.predict_proba(rows[half != taught])[:, 1])
        values.append(tried.above.mean())
        errors.append(float(sum(np.var(part, ddof=1) / part.size for part in (tried.above, tried.below))))
    floor = 1 / size**2  # told apart without a mistake, the components do not vary
    return Estimate(float(np.mean(values)), sqrt(float(np.mean(errors)) + floor))
