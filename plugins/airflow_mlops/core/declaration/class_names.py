"""The classes of a label: their names, their order, and what a loop of three or more of them may declare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from airflow_mlops.core.declaration.evaluate import (
    CLASS_METRICS,
    ROW_CLASS_METRICS,
    SEVERAL_CLASS_METRICS,
)
from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.loop import Loop

ClassName = Annotated[str, Field(min_length=1, max_length=200)] | int
"""A class as the data has it."""


def class_names(classes: tuple[str | int, ...], positive: str | int | None) -> tuple[str, ...]:
    """Return the names of the classes by their codes, from 0; of two classes the positive one has the code 1.

    >>> class_names(("late", "on_time"), "late"), class_names((1, 2, 3), None)
    (('on_time', 'late'), ('1', '2', '3'))
    """
    if positive is not None and positive == classes[0]:
        classes = classes[::-1]
    return tuple(map(str, classes))


def require_fitting_threshold(loop: Loop) -> None:
    """Raise DeclarationError if a threshold is declared where no two classes are decided, or a key judges at 0.5.

    Raises
    ------
    DeclarationError
        For the first such key.
    """
    if loop.train.threshold is None:
        return
    if not loop.classifies or loop.several_classes:
        kind = f"{len(loop.class_names or ())} classes" if loop.classifies else "a number"
        raise DeclarationError(
            f"a threshold decides between two classes, and the label is {kind}; leave it out", key="train.threshold"
        )
    if loop.rollout.target != "batch":
        raise DeclarationError(
            f"{loop.rollout.target} answers with the probability, and decides nothing by train.threshold; use batch",
            key="rollout.target",
        )
    if loop.metric == "accuracy":
        raise DeclarationError(
            "accuracy compares models row by row at 0.5, and train.threshold declares another; compare by log_loss, "
            "brier or a metric of your own, and gate on accuracy after it",
            key="watch.performance.metric" if loop.watch.performance else "gates",
        )


def require_fitting_classes(loop: Loop) -> None:
    """Raise DeclarationError if the declared classes do not fit the metrics.

    Raises
    ------
    DeclarationError
        For the first metric that they do not fit.
    """
    if loop.data.classes is not None and not loop.classifies:
        raise DeclarationError(
            "classes are declared, and the metrics of the gates and of the watch are for numbers; gate on a metric of "
            "classes such as log_loss, or leave classes out",
            key="data.classes",
        )
    names = [gate.metric for gate in loop.gates]
    if loop.several_classes:
        _refuse_metrics_of_two(names, len(loop.class_names or ()))
        return
    for index, name in enumerate(names):
        if name in SEVERAL_CLASS_METRICS:
            raise DeclarationError(
                f"{name} is for three classes or more, and data.classes declares none or two; use one of "
                f"{', '.join(CLASS_METRICS)}",
                key=f"gates[{index}].metric",
            )


def _refuse_metrics_of_two(names: list[str], count: int) -> None:
    for index, name in enumerate(names):
        if name in CLASS_METRICS and name not in ROW_CLASS_METRICS:
            raise DeclarationError(
                f"{name} is for two classes only, and data.classes declares {count}; use one of "
                f"{', '.join((*ROW_CLASS_METRICS, *SEVERAL_CLASS_METRICS))}",
                key=f"gates[{index}].metric",
            )
