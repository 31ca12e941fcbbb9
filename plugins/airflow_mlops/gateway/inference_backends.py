"""The backends that predict rows: a frame as in training, an array of floats, or ONNX.

The frame is the reference: training and batch scoring use it, too. A faster backend is used only if the version
supports it and gives the same predictions on rows generated from the columns; otherwise the log has the reason.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.quantiles import quantiles_of
from airflow_mlops.core.errors import MlopsError, RolloutError, TrainingError
from airflow_mlops.core.training.model_input import encodes_categories
from airflow_mlops.core.training.predict import class_probabilities, predict, quantile_predictions
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.gateway.row_shape import RowField, RowShape

log = logging.getLogger(__name__)
Predict = Callable[[Sequence[Any]], Floats]
"""Function from rows of a :class:`RowShape` to predictions; it may raise anything.

Their shape is (n_rows,), or (n_rows, n) of three classes or more, or of several quantiles.
"""
BackendName = Literal["frame", "array", "onnx"]
MAX_ULPS = 256
"""Allowed difference of array and frame, in units in the last place of the largest prediction of the sample."""
ONNX_TOLERANCE = 1e-5
"""Allowed difference of ONNX, which adds 32-bit floats, and frame, relative to the largest prediction."""
SAMPLE_ROWS = 64
MIN_COMPARED = 8
"""Sample rows that the frame must predict before another backend can be compared with it."""


@dataclass(frozen=True)
class InferenceBackend:
    """The backend of a loaded version: its name, its predict function, and the seconds of one warm row."""

    name: BackendName
    predict: Predict
    seconds: float


def choose_backend(
    model: Any, shape: RowShape, maker: FeatureMaker, *, classifies: bool, onnx: bool
) -> InferenceBackend:
    """Return the fastest backend of an estimator that agrees with the frame, warmed up.

    Parameters
    ----------
    onnx : bool
        Whether to try ONNX; needs the extra ``onnx``.

    Raises
    ------
    RolloutError
        If the model was fitted on a feature that the rows do not have.
    """
    predict_frame = frame_backend(model, shape, maker, classifies=classifies)
    sample = generate_rows(shape, levels=maker.schema.levels)
    expected = predict_one_by_one(predict_frame, sample)
    choice: tuple[BackendName, Predict] = ("frame", predict_frame)
    names = array_columns(model, shape, maker)
    if names is not None:
        choice = (
            fastest_equivalent_backend(model, shape, names, sample, expected, classifies=classifies, onnx=onnx)
            or choice
        )
    name, chosen = choice
    return InferenceBackend(name, chosen, time_single_row(chosen, sample, expected))


def frame_backend(model: Any, shape: RowShape, maker: FeatureMaker, *, classifies: bool) -> Predict:
    """Return a predict function that builds the frame and the features as training does."""

    def predict_frame(rows: Sequence[Any]) -> Floats:
        return predict(model, maker.make(shape.to_frame(rows), "gateway"), classifies=classifies)

    return predict_frame


def array_columns(model: Any, shape: RowShape, maker: FeatureMaker) -> list[str] | None:
    """Return the model's columns in its order if all are numeric, None if it needs a frame.

    Raises
    ------
    RolloutError
        If a feature is not a column, and the loop has no function for features.
    """
    if maker.reference is not None:
        return None
    data = maker.workspace.loop.data
    columns = sorted(field.name for field in shape.fields if field.name not in maker.hidden | data.key_and_time)
    names = [str(name) for name in getattr(model, "feature_names_in_", columns)]
    missing = [name for name in names if name not in columns]
    if missing:
        raise RolloutError(
            f"the model was fitted on {', '.join(map(repr, missing[:5]))}, and requests have no such column; "
            f"they have {', '.join(columns)}"
        )
    fields = [shape.fields[shape.by_name[name]] for name in names]
    if encodes_categories(model) and any(pa.types.is_integer(field.kind) for field in fields):
        return None  # an array of floats would merge integers beyond 2**53, which are categories of their own
    return names if all(field.numeric for field in fields) else None


def fastest_equivalent_backend(
    model: Any, shape: RowShape, names: list[str], sample: list[Any], expected: Floats, *, classifies: bool, onnx: bool
) -> tuple[BackendName, Predict] | None:
    """Return the name and predictor of the first backend that agrees with the frame, ONNX before array.

    Parameters
    ----------
    expected : ndarray of float, shape (n_rows,) or (n_rows, n)
        Predictions of the frame for the sample, NaN where it raises.
    """
    comparable = int(finite_rows(expected).sum())
    if comparable < MIN_COMPARED:
        log.warning("the frame predicts %d of %d generated rows; rows go as frames", comparable, len(sample))
        return None
    values = shape.value_getter(names)
    candidates: list[tuple[BackendName, Callable[[], Callable[[Any], Any]], float]] = []
    if onnx:
        has_null = np.array([any(value is None for value in to_tuple(values(row))) for row in sample])
        nulls = bool(np.isfinite(expected[has_null]).any())
        candidates.append(("onnx", lambda: onnx_predictor(model, len(names), classifies, nulls=nulls), ONNX_TOLERANCE))
    tolerance_of_array = MAX_ULPS * float(np.finfo(np.float64).eps)
    candidates.append(("array", lambda: scikit_predictor(model, classifies), tolerance_of_array))
    for name, build, tolerance in candidates:
        try:
            predictor = matrix_backend(build(), values, len(names), numbers=expected.shape[1:])
            difference = largest_difference(predictor, sample, expected)
        except Exception as error:  # a conversion, or a model on arrays, may raise anything
            log.warning("rows do not go as %s: %s: %s", name, type(error).__name__, error)
            continue
        allowed = tolerance * max(1e-300, float(np.nanmax(np.abs(expected))))
        if difference <= allowed:
            return name, predictor
        log.warning(
            "rows do not go as %s: it is up to %.3g away from the frame; %.3g is allowed", name, difference, allowed
        )
    return None


def largest_difference(predictor: Predict, sample: Sequence[Any], expected: Floats) -> float:
    """Return the largest absolute difference to the expected predictions, of single rows and of a batch.

    Both are compared because a model may treat a batch otherwise. Infinite where the predictor raises for rows that the
    frame predicts, or the other way round.
    """
    comparable = finite_rows(expected)
    single = predict_one_by_one(predictor, sample)
    batch = predictor([row for row, finite in zip(sample, comparable, strict=True) if finite])
    if not np.array_equal(finite_rows(single), comparable):
        return float("inf")
    both = np.append(single[comparable] - expected[comparable], batch - expected[comparable])
    return float(np.nanmax(np.abs(both)))


def matrix_backend(
    predictor: Callable[[Any], Any], values: Callable[[Any], Any], columns: int, *, numbers: tuple[int, ...]
) -> Predict:
    """Return a predict function that builds an array of floats, with NaN for null.

    Parameters
    ----------
    numbers : tuple of int
        Shape of the prediction of a row.
    """

    def predict_matrix(rows: Sequence[Any]) -> Floats:
        matrix = np.array([values(row) for row in rows], np.float64).reshape(len(rows), columns)
        predictions: Floats = np.asarray(predictor(matrix), np.float64)
        if predictions.shape != (len(rows), *numbers):
            raise TrainingError(f"the model gave predictions of shape {predictions.shape} for {len(rows)} rows")
        return predictions

    return predict_matrix


def scikit_predictor(model: Any, classifies: bool) -> Callable[[Any], Any]:
    """Return a predict function over float arrays for a copy of the model without feature names.

    With names, scikit-learn would warn at every array, which can cost more than the prediction.
    """
    nameless = copy.deepcopy(model)
    several = quantiles_of(model) is not None
    models = [nameless, *(nameless.estimators_ if several else [])]
    steps = [step for part in models for _name, step in getattr(part, "steps", [])]
    for estimator in [*models, *steps]:
        vars(estimator).pop("feature_names_in_", None)
    if several:
        return partial(quantile_predictions, nameless)
    if not classifies:
        return nameless.predict  # type: ignore[no-any-return]
    return partial(class_probabilities, nameless)


def onnx_predictor(model: Any, columns: int, classifies: bool, *, nulls: bool) -> Callable[[Any], Any]:
    """Return a predict function over float arrays by ONNX; see :mod:`airflow_mlops.gateway.onnx_model`.

    Of several quantiles each model is converted by itself: ONNX has the mean of a ``VotingRegressor``, and no parts.
    """
    from airflow_mlops.gateway.onnx_model import convert_to_onnx

    if quantiles_of(model) is None:
        return convert_to_onnx(model, columns, classifies=classifies, nulls=nulls)
    parts = [convert_to_onnx(part, columns, classifies=classifies, nulls=nulls) for part in model.estimators_]
    return lambda matrix: np.sort(np.column_stack([part(matrix) for part in parts]), axis=1)


def to_tuple(values: Any) -> tuple[Any, ...]:
    """Return the values of a row as a tuple; ``attrgetter`` gives a bare value for a single column."""
    return values if isinstance(values, tuple) else (values,)


def predict_one_by_one(predictor: Predict, rows: Sequence[Any]) -> Floats:
    """Return the predictions of rows predicted one by one, NaN where the predictor raises.

    Their shape is (n_rows,), or (n_rows, n) of three classes or more, or of several quantiles.
    """
    predictions: list[Any] = [None] * len(rows)
    for index, row in enumerate(rows):
        try:
            predictions[index] = predictor([row])[0]
        except Exception as error:
            log.debug("a generated row: %s", error)
    shape = next((np.shape(prediction) for prediction in predictions if prediction is not None), ())
    missing = np.full(shape, np.nan)
    return np.array([missing if prediction is None else prediction for prediction in predictions], np.float64)


def finite_rows(predictions: Floats) -> npt.NDArray[np.bool_]:
    """Return for each row whether all numbers of its prediction are finite, shape (n_rows,)."""
    finite = np.isfinite(predictions).reshape(len(predictions), -1)
    return np.asarray(finite.all(axis=1), np.bool_)


def time_single_row(predictor: Predict, sample: Sequence[Any], expected: Floats) -> float:
    """Return the median seconds of a single warm row; infinite if no generated row can be predicted."""
    rows = [row for row, finite in zip(sample, finite_rows(expected), strict=True) if finite][:9]
    times = []
    for row in rows:
        began = time.perf_counter()
        predictor([row])
        times.append(time.perf_counter() - began)
    return float(np.median(times)) if times else float("inf")


def generate_rows(
    shape: RowShape, count: int = SAMPLE_ROWS, *, levels: Mapping[str, tuple[str, ...]] | None = None
) -> list[Any]:
    """Return the same generated rows every time: numbers of several magnitudes, and null where it is allowed.

    Parameters
    ----------
    levels : mapping of str to tuple of str, optional
        Levels of the categories, of which rows get theirs.
    """
    random = np.random.default_rng(0)
    rows = []
    for index in range(count):
        size = 10.0 ** (index % 5 - 1)
        values: dict[str, Any] = {}
        for position, field in enumerate(shape.fields):
            null = field.nullable and index % 4 == 3 and random.random() < 0.3
            known = (levels or {}).get(field.name)
            if known and not null:
                values[f"f{position}"] = known[index % len(known)]
            else:
                values[f"f{position}"] = None if null else generate_value(field, random, size)
        rows.append(shape.row_class(**values))
    return rows


def generate_value(field: RowField, random: np.random.Generator, size: float) -> Any:
    """Return a value of a column, with the type that a decoded request has."""
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


def describe_failure(error: BaseException) -> str:
    """Return the message of a model's error, short enough for a line of the log."""
    message = str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"
    return message[:300]
