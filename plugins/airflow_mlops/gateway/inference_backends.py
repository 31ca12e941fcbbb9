"""The forms in which a version predicts rows: a frame as in training, an array of floats, or ONNX.

The frame is the truth: it goes the way that training and batch scoring go. The quicker forms are used only where a
version can take them and, on rows made up from the columns, says the same; a version falls back with a logged reason.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import MlopsError, RolloutError, TrainingError
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.gateway.row_shape import RowField, RowShape

log = logging.getLogger(__name__)
Predict = Callable[[Sequence[Any]], Floats]
"""Takes rows of a :class:`RowShape` and gives one number for each, shape (n_rows,); may raise anything."""
Form = Literal["frame", "array", "onnx"]
ULPS = 256
"""How far two forms may lie apart, in units in the last place of the largest prediction of a row sample."""
ONNX_APART = 1e-5
"""How far ONNX, which adds up floats of 32 bits, may lie from the frame: relative to the largest prediction."""
SAMPLE_ROWS = 64
FEWEST_COMPARED = 8
"""Rows for which the frame must give a number before another form can be compared with it."""


@dataclass(frozen=True)
class ReadyModel:
    """A version that predicts rows: in which form, and how long one row took when it was warmed, in seconds."""

    form: Form
    predict: Predict
    seconds: float


def ready_model(model: Any, shape: RowShape, maker: FeatureMaker, *, classifies: bool, onnx: bool) -> ReadyModel:
    """Return a loaded estimator in the quickest form that says what the frame says, warmed up.

    Parameters
    ----------
    onnx : bool
        Whether to try ONNX; needs the extra ``onnx``.

    Raises
    ------
    RolloutError
        If the model was fitted on a feature that no row holds.
    """
    by_frame = frame_form(model, shape, maker, classifies=classifies)
    sample = sample_rows(shape)
    truth = each_alone(by_frame, sample)
    found: tuple[Form, Predict] = ("frame", by_frame)
    names = array_columns(model, shape, maker)
    if names is not None:
        found = first_that_agrees(model, shape, names, sample, truth, classifies=classifies, onnx=onnx) or found
    form, chosen = found
    return ReadyModel(form, chosen, seconds_of_one(chosen, sample, truth))


def frame_form(model: Any, shape: RowShape, maker: FeatureMaker, *, classifies: bool) -> Predict:
    """Return what predicts rows by way of the frame and the features that training made of one."""

    def by_frame(rows: Sequence[Any]) -> Floats:
        return predict(model, maker.make(shape.frame(rows), "gateway"), classifies=classifies)

    return by_frame


def array_columns(model: Any, shape: RowShape, maker: FeatureMaker) -> list[str] | None:
    """Return the columns that the model sees, in its order, if all are numbers; None where it needs a frame.

    Raises
    ------
    RolloutError
        If there is no function for features, and a feature is none of the columns.
    """
    if maker.reference is not None:
        return None
    data = maker.workspace.loop.data
    seen = sorted(one.name for one in shape.fields if one.name not in maker.hidden | {data.key, data.time})
    names = [str(name) for name in getattr(model, "feature_names_in_", seen)]
    missing = [name for name in names if name not in seen]
    if missing:
        raise RolloutError(
            f"the model was fitted on {', '.join(map(repr, missing[:5]))}, and rows of requests hold no such column; "
            f"there are {', '.join(seen)}"
        )
    return names if all(shape.fields[shape.by_name[name]].numeric for name in names) else None


def first_that_agrees(
    model: Any, shape: RowShape, names: list[str], sample: list[Any], truth: Floats, *, classifies: bool, onnx: bool
) -> tuple[Form, Predict] | None:
    """Return the first of ONNX and array that says what the frame says; None if neither does."""
    values = shape.values_of(names)
    known = np.isfinite(truth)
    if int(known.sum()) < FEWEST_COMPARED:
        log.warning("the frame predicts %d of %d rows made up; rows go as frames", known.sum(), len(sample))
        return None
    forms: list[tuple[Form, Callable[[], Callable[[Any], Any]], float]] = []
    if onnx:
        blank = np.array([any(one is None for one in as_tuple(values(row))) for row in sample])
        nulls = bool(np.isfinite(truth[blank]).any())
        forms.append(("onnx", lambda: onnx_matrix(model, len(names), classifies, nulls=nulls), ONNX_APART))
    forms.append(("array", lambda: scikit_matrix(model, classifies), ULPS * float(np.finfo(np.float64).eps)))
    for form, make, apart in forms:
        try:
            chosen = matrix_form(make(), values, len(names))
            found = each_alone(chosen, sample)
            together = chosen([row for row, good in zip(sample, known, strict=True) if good])
        except Exception as error:  # a conversion, or a model on arrays, may raise anything
            log.warning("rows do not go as %s: %s: %s", form, type(error).__name__, error)
            continue
        step = apart * max(1e-300, float(np.abs(truth[known]).max()))
        worst = float(np.nanmax(np.abs(np.append(found[known] - truth[known], together - truth[known]))))
        if bool(np.array_equal(np.isfinite(found), known)) and worst <= step:
            return form, chosen
        log.warning("rows do not go as %s: it is up to %.3g away from the frame; %.3g is allowed", form, worst, step)
    return None


def matrix_form(of_matrix: Callable[[Any], Any], values: Callable[[Any], Any], columns: int) -> Predict:
    """Return what predicts rows by way of an array of floats; null is NaN there."""

    def by_matrix(rows: Sequence[Any]) -> Floats:
        matrix = np.array([values(row) for row in rows], np.float64).reshape(len(rows), columns)
        found: Floats = np.asarray(of_matrix(matrix), np.float64)
        if found.shape != (len(rows),):
            raise TrainingError(f"the model gave predictions of shape {found.shape} for {len(rows)} rows")
        return found

    return by_matrix


def scikit_matrix(model: Any, classifies: bool) -> Callable[[Any], Any]:
    """Return what predicts an array with a model that has forgotten the names of its features.

    With them, scikit-learn would warn at every array, which costs more than many a prediction.
    """
    nameless = copy.deepcopy(model)
    steps = [step for _name, step in getattr(nameless, "steps", [])]
    for one in [nameless, *steps]:
        vars(one).pop("feature_names_in_", None)
    if not classifies:
        return nameless.predict  # type: ignore[no-any-return]
    place = list(nameless.classes_).index(1)
    probabilities = nameless.predict_proba
    return lambda matrix: probabilities(matrix)[:, place]


def onnx_matrix(model: Any, columns: int, classifies: bool, *, nulls: bool) -> Callable[[Any], Any]:
    """Return what predicts an array by ONNX; see :mod:`airflow_mlops.gateway.onnx_model`."""
    from airflow_mlops.gateway.onnx_model import converted

    return converted(model, columns, classifies=classifies, nulls=nulls)


def as_tuple(values: Any) -> tuple[Any, ...]:
    """Return the values of a row as a tuple, also where it is a single one."""
    return values if isinstance(values, tuple) else (values,)


def each_alone(how: Predict, rows: Sequence[Any]) -> Floats:
    """Return the prediction of each row by itself, shape (n_rows,); NaN where it raises."""
    found = np.full(len(rows), np.nan)
    for at, row in enumerate(rows):
        try:
            found[at] = how([row])[0]
        except Exception as error:
            log.debug("a made-up row: %s", error)
    return found


def seconds_of_one(how: Predict, sample: Sequence[Any], truth: Floats) -> float:
    """Return the median time of a row alone, warm, in seconds; infinite where no made-up row can be predicted."""
    good = [row for row, value in zip(sample, truth, strict=True) if np.isfinite(value)][:9]
    taken = []
    for row in good:
        began = time.perf_counter()
        how([row])
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)) if taken else float("inf")


def sample_rows(shape: RowShape, count: int = SAMPLE_ROWS) -> list[Any]:
    """Return rows made up from the columns, the same every time: numbers of many sizes, and null where it may be."""
    random = np.random.default_rng(0)
    rows = []
    for at in range(count):
        size = 10.0 ** (at % 5 - 1)
        values = {}
        for place, field in enumerate(shape.fields):
            null = field.nullable and at % 4 == 3 and random.random() < 0.3
            values[f"f{place}"] = None if null else made_up(field, random, size)
        rows.append(shape.row_class(**values))
    return rows


def made_up(field: RowField, random: np.random.Generator, size: float) -> Any:
    """Return a value of a column, as JSON would have been decoded."""
    number = float(random.normal()) * size
    kind = field.kind
    if field.masked is not None or pa.types.is_string(kind):
        return f"{int(abs(number))}"
    if pa.types.is_boolean(kind):
        return number > 0
    if pa.types.is_integer(kind):
        return int(number)
    if pa.types.is_timestamp(kind):
        return datetime(2020, 1, 1 + int(abs(number)) % 28, tzinfo=UTC if kind.tz else None)
    if pa.types.is_date(kind):
        return date(2020, 1, 1 + int(abs(number)) % 28)
    if pa.types.is_decimal(kind):
        return Decimal(int(abs(number)) % 10)
    return number


def failure_of(error: BaseException) -> str:
    """Return an error of a model in words, short enough for a line of the log."""
    said = str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"
    return said[:300]
