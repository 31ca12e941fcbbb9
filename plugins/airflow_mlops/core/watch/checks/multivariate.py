"""The check ``multivariate``: how well a domain classifier separates the window's rows from the reference's.

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
from airflow_mlops.core.watch.checks.against_windows import FEWEST_WINDOWS, Estimate, compare, shortfall
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import FEWEST_ROWS, CheckTerms
from airflow_mlops.core.watch.checks.encoded_rows import RowEncoder
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow

CLASSIFIED_ROWS = 2_000
"""Rows of either side that a classifier is fitted on and tested with."""
BY_CHANCE = Estimate(0.5, 0.0)


def check_multivariate(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Judge whether a classifier separates the rows of a window from those of its champion's reference."""
    return judge_telling_apart([rows.features for rows in window.reference.windows], window.rows.features, terms)


def judge_telling_apart(reference: Sequence[pd.DataFrame], window: pd.DataFrame, terms: CheckTerms) -> CheckResult:
    """Judge whether a classifier separates rows from those of the reference.

    The effect is the excess of pairs in the right order over pairs in the wrong one (2 AUC - 1), beyond that of the
    reference's own windows. It is at most twice the total variation distance.

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
    all_reference = pd.concat(reference, ignore_index=True)
    encoder = RowEncoder(all_reference, window)
    parts = [encoder.encode(frame) for frame in reference]
    has_windows = len(parts) >= FEWEST_WINDOWS
    size = min(CLASSIFIED_ROWS, len(window), min(map(len, parts)) if has_windows else len(all_reference))
    if size < FEWEST_ROWS:
        return cannot_tell(f"a window of the reference has {size} rows; {FEWEST_ROWS} are needed", needed=FEWEST_ROWS)
    auc = classifier_auc(encoder.encode(window), np.concatenate(parts), size)
    past = (
        [classifier_auc(part, np.concatenate([other for other in parts if other is not part]), size) for part in parts]
        if has_windows
        else [BY_CHANCE]
    )
    comparison = compare(auc, past)
    verdict, needed = comparison.verdict(rows=size, alarm_rate=terms.alarm_rate, least=terms.min_effect / 2, alike=True)
    if verdict == "no alarm" and comparison.usual + terms.min_effect / 2 > 1:
        verdict, needed = "insufficient data", None  # no AUC exceeds the usual one by the least effect
    message = (
        f"window and reference are told apart with an AUC of {auc.value:.3f}, "
        f"{f'the {len(parts)} windows of the reference' if has_windows else 'by chance it is'} {comparison.usual:.3f} "
        f"(p = {comparison.p_value:.2g}, {size:,} rows each)"
        f"{shortfall(verdict, needed)}{encoder.remark}"
    )
    numbers = {**comparison.numbers(), "rows": size, "needed": needed, "columns": len(encoder.columns)}
    return CheckResult(
        verdict,
        message,
        numbers={**numbers, "effect": 2 * comparison.difference},
        report={"reference": [estimate.value for estimate in past], "left_out": encoder.left_out},
    )


def classifier_auc(first: Floats, second: Floats, size: int) -> Estimate:
    """Return the cross-validated AUC of a classifier between the rows of two matrices, ``size`` rows of each.

    Each half of the rows is fitted on and the other tested. The two values share their rows and are not independent, so
    the error is that of one of them.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    source = np.random.default_rng(0)
    rows = np.concatenate([part[source.permutation(len(part))[:size]] for part in (first, second)])
    side = np.repeat([1.0, 0.0], size)
    half = np.tile(np.arange(size) % 2, 2)
    values, errors = [], []
    for fold in (0, 1):
        model = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, early_stopping=False, random_state=0)
        model.fit(rows[half == fold], side[half == fold])
        components = auc_components(side[half != fold], model.predict_proba(rows[half != fold])[:, 1])
        values.append(components.above.mean())
        errors.append(float(sum(np.var(part, ddof=1) / part.size for part in (components.above, components.below))))
    floor = 1 / size**2  # components of a perfect classifier do not vary
    return Estimate(float(np.mean(values)), sqrt(float(np.mean(errors)) + floor))
