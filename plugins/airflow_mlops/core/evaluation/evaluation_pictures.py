"""Pictures of an evaluation: how right a candidate is on the holdout, beside the champion, and on which features.

Each is an SVG file, the same bytes for the same numbers.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.evaluation.evaluation_context import EvaluationContext, JudgedModel
from airflow_mlops.core.training.predict import gives_decisions
from airflow_mlops.core.training.row_losses import Floats, middle

SIZE = (4.8, 3.6)
"""Inches."""
POINTS = 200
"""Most points of a curve or a cloud: more are not seen, and make the file large."""
BINS = 10
BARS = 15

Curve = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def evaluation_pictures(
    context: EvaluationContext, candidate: JudgedModel, importance: Mapping[str, float] | None
) -> dict[str, bytes]:
    """Return the pictures of a candidate by file name.

    Classes have ``roc.svg``, ``precision_recall.svg`` and ``calibration.svg``, if there are probabilities and rows of
    each class; numbers have ``residuals.svg`` and ``predictions.svg``. ``importance.svg`` has the permutation
    importance.

    Parameters
    ----------
    importance : mapping of str to float, optional
        The rise of the mean loss by feature.
    """
    drawings: dict[str, Callable[[Any], None]] = {}
    if not candidate.classifies:
        predicted = middle(candidate.predictions)
        drawings["residuals.svg"] = lambda axes: draw_residuals(axes, context.label, predicted)
        drawings["predictions.svg"] = lambda axes: draw_predictions(axes, context.label, predicted)
    elif not gives_decisions(candidate.model):
        chances = chances_of_models(context, candidate)
        drawings["roc.svg"] = lambda axes: draw_curves(axes, chances, roc, ("false positive rate", "recall"))
        drawings["precision_recall.svg"] = lambda axes: draw_curves(
            axes, chances, precision_recall, ("recall", "precision")
        )
        drawings["calibration.svg"] = lambda axes: draw_curves(
            axes, chances, calibration, ("mean probability", "share of rows"), diagonal=True
        )
    if importance:
        drawings["importance.svg"] = lambda axes: draw_importance(axes, importance, context.loop.metric)
    return {name: draw(drawing) for name, drawing in drawings.items()}


def draw(drawing: Callable[[Any], None]) -> bytes:
    """Return a drawing as an SVG file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    content = io.BytesIO()
    with rc_context({"svg.hashsalt": "airflow-mlops", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the reader's own fonts draw the names
        figure = Figure(figsize=SIZE)
        drawing(figure.subplots())
        figure.savefig(content, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return content.getvalue()


def chances_of_models(context: EvaluationContext, candidate: JudgedModel) -> dict[str, tuple[npt.NDArray[Any], Floats]]:
    """Return who has the class and its probability, by the name of a curve.

    With two classes that is candidate and champion; with more it is one of the candidate for each class, against the
    others. A class that has no row in the holdout, or all of them, has no curve.
    """
    names = context.loop.class_names or ()
    if context.loop.several_classes:
        curves = {
            f"class {name}": (context.label == code, candidate.predictions[:, code]) for code, name in enumerate(names)
        }
    else:
        curves = {"candidate": (context.label == 1, candidate.predictions)}
        if context.champion is not None and not gives_decisions(context.champion.model):
            curves["champion"] = (context.label == 1, context.champion.predictions)
    return {name: (is_class, chance) for name, (is_class, chance) in curves.items() if 0 < is_class.mean() < 1}


def draw_curves(
    axes: Any,
    chances: Mapping[str, tuple[npt.NDArray[Any], Floats]],
    curve: Callable[[npt.NDArray[Any], Floats], Curve],
    words: Sequence[str],
    *,
    diagonal: bool = False,
) -> None:
    """Draw a curve of each name; ``words`` are those of the two axes."""
    for name, (is_class, chance) in chances.items():
        across, up = curve(is_class, chance)
        step = max(1, len(across) // POINTS)
        kept = np.unique([*range(0, len(across), step), len(across) - 1])
        axes.plot(across[kept], up[kept], label=visible(name), marker="o" if diagonal else None)
    if diagonal:
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel=words[0], ylabel=words[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if chances:
        for text in axes.legend().get_texts():
            text.set_parse_math(False)


def roc(is_class: npt.NDArray[Any], chance: Floats) -> Curve:
    """Return false positive rates and recalls by a falling threshold."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(is_class, chance)
    return false, true


def precision_recall(is_class: npt.NDArray[Any], chance: Floats) -> Curve:
    """Return recalls and precisions by a rising threshold."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(is_class, chance)
    return recall, precision


def calibration(is_class: npt.NDArray[Any], chance: Floats) -> Curve:
    """Return the mean probability and the share of the class in ten bins of equal numbers of rows."""
    from sklearn.calibration import calibration_curve

    share, mean = calibration_curve(is_class, np.clip(chance, 0, 1), n_bins=BINS, strategy="quantile")
    return mean, share


def draw_residuals(axes: Any, label: Floats, predicted: Floats) -> None:
    """Draw how often each residual, the prediction minus the label, occurs, without the outer hundredths."""
    residuals = predicted - label
    low, high = np.quantile(residuals, [0.005, 0.995])
    axes.hist(residuals, bins=40, range=(low, high) if low < high else None)
    axes.axvline(0, color="grey", linestyle=":")
    axes.set(xlabel="prediction minus label", ylabel="rows")


def draw_predictions(axes: Any, label: Floats, predicted: Floats) -> None:
    """Draw predictions against labels: evenly many of the rows, in the order of their labels."""
    order = np.argsort(label, kind="stable")
    kept = order[np.linspace(0, len(order) - 1, min(len(order), POINTS)).astype(np.intp)]
    axes.plot(label[kept], predicted[kept], "o", markersize=3)
    ends = [float(label.min()), float(label.max())]
    axes.plot(ends, ends, color="grey", linestyle=":")
    axes.set(xlabel="label", ylabel="prediction")


def draw_importance(axes: Any, importance: Mapping[str, float], metric: str) -> None:
    """Draw the features whose shuffling makes the mean loss rise most."""
    top = sorted(importance.items(), key=lambda item: (-item[1], item[0]))[:BARS]
    places = range(len(top))
    axes.barh(places, [rise for _, rise in top])
    axes.set_yticks(places, [visible(name) for name, _ in top], parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel=f"rise of the mean loss of a row ({metric})")


def visible(name: str) -> str:
    """Return a name with each character that cannot be printed spelled out; XML has no place for some of them.

    >>> visible("a\\x00b")
    'a\\\\x00b'
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)
