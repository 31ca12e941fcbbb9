"""The form of an answer: a number, the most likely of three classes or more, or the middle one of several quantiles.

Beside a class is the probability of each, and beside the middle quantile each of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.quantiles import part_names

Prediction = float | list[float]
"""A number, the probabilities of three classes or more in their declared order, or several quantiles, rising."""


@dataclass(frozen=True)
class AnswerForm:
    """The form in which every protocol answers.

    Parameters
    ----------
    classifies : bool
        Whether the label is a class.
    classes : tuple of str or int, optional
        Three classes or more, as the data has them; None where a prediction is one number, or several quantiles.
    quantiles : tuple of float
        The quantiles of a model of several, rising.
    """

    classifies: bool
    classes: tuple[str | int, ...] | None = None
    quantiles: tuple[float, ...] = ()

    @classmethod
    def of(cls, loop: Loop) -> AnswerForm:
        """Return the form of a loop."""
        return cls(loop.classifies, loop.data.classes if loop.several_classes else None, loop.train.quantiles)

    @property
    def names(self) -> list[str]:
        """The name of each number of a prediction; none where it is one number."""
        return [str(name) for name in self.classes] if self.classes else [f"{number:g}" for number in self.quantiles]

    @property
    def columns(self) -> list[str]:
        """The column of each number of a prediction in the log; none where it is one number.

        >>> AnswerForm(False, quantiles=(0.1, 0.5, 0.9)).columns
        ['quantile_0.1', 'quantile_0.5', 'quantile_0.9']
        """
        return [f"probability_{name}" for name in self.names] if self.classes else part_names(self.quantiles)

    @property
    def width(self) -> int:
        """Count of numbers in a prediction."""
        return len(self.names) or 1

    @property
    def details(self) -> str:
        """The field that has the numbers of a prediction by name, where there are several."""
        return "probabilities" if self.classes else "quantiles"

    def single(self, prediction: Any) -> Any:
        """Return the one value of a prediction: the number, the most likely class or the middle quantile.

        >>> AnswerForm(False, quantiles=(0.1, 0.5, 0.9)).single([1.0, 4.0, 5.0])
        4.0
        """
        if self.classes:
            return self.classes[most_likely(prediction)]
        return prediction[len(prediction) // 2] if self.quantiles else prediction

    def fields(self, predictions: Sequence[Any]) -> dict[str, list[Any]]:
        """Return the ``predictions`` of rows, and their ``probabilities`` or ``quantiles`` by name where there are any.

        >>> AnswerForm(True, ("early", "on time", "late")).fields([[0.2, 0.1, 0.7]])
        {'predictions': ['late'], 'probabilities': [{'early': 0.2, 'on time': 0.1, 'late': 0.7}]}
        >>> AnswerForm(False, quantiles=(0.1, 0.9)).fields([[1.0, 5.0]])
        {'predictions': [5.0], 'quantiles': [{'0.1': 1.0, '0.9': 5.0}]}
        """
        names = self.names
        if not names:
            return {"predictions": list(predictions)}
        return {
            "predictions": [self.single(row) for row in predictions],
            self.details: [dict(zip(names, row, strict=True)) for row in predictions],
        }

    def tensors(self) -> dict[str, dict[str, Any]]:
        """Return the outputs of the Open Inference Protocol by name: their metadata."""
        if not self.names:
            names = ("prediction", "probability") if self.classifies else ("prediction",)
            return {name: {"name": name, "datatype": "FP64", "shape": [-1]} for name in names}
        datatype, parameter = "FP64", {"quantiles": json.dumps(self.names)}
        if self.classes:
            datatype = "INT64" if isinstance(self.classes[0], int) else "BYTES"
            parameter = {"classes": json.dumps(self.classes)}
        return {
            "prediction": {"name": "prediction", "datatype": datatype, "shape": [-1]},
            self.details: {
                "name": self.details,
                "datatype": "FP64",
                "shape": [-1, self.width],
                "parameters": parameter,
            },
        }

    def outputs(self, names: Sequence[str], predictions: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the outputs of these names in a response of the Open Inference Protocol."""
        tensors, chosen = self.tensors(), [self.single(row) for row in predictions]
        data = {"prediction": chosen, "probability": chosen}
        if self.names:
            data[self.details] = [number for row in predictions for number in row]
        return [
            {**tensors[name], "shape": [len(predictions), *tensors[name]["shape"][1:]], "data": data[name]}
            for name in names
        ]


def most_likely(probabilities: Sequence[float]) -> int:
    """Return the code of the most likely class; of equal ones the first.

    >>> most_likely([0.2, 0.4, 0.4])
    1
    """
    return max(range(len(probabilities)), key=probabilities.__getitem__)
