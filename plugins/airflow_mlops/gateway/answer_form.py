"""The form of an answer: a number, or of three classes or more the most likely class and the probability of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.declaration.loop import Loop

Prediction = float | list[float]
"""A number, or the probabilities of three classes or more in their declared order."""


@dataclass(frozen=True)
class AnswerForm:
    """The form in which every protocol answers.

    Parameters
    ----------
    classifies : bool
        Whether the label is a class.
    classes : tuple of str or int, optional
        Three classes or more, as the data has them; None where a prediction is one number.
    """

    classifies: bool
    classes: tuple[str | int, ...] | None = None

    @classmethod
    def of(cls, loop: Loop) -> AnswerForm:
        """Return the form of a loop."""
        return cls(loop.classifies, loop.data.classes if loop.several_classes else None)

    def fields(self, predictions: Sequence[Any]) -> dict[str, list[Any]]:
        """Return the ``predictions`` of rows, and of three classes or more their ``probabilities`` by class.

        >>> AnswerForm(True, ("early", "on time", "late")).fields([[0.2, 0.1, 0.7]])
        {'predictions': ['late'], 'probabilities': [{'early': 0.2, 'on time': 0.1, 'late': 0.7}]}
        """
        if self.classes is None:
            return {"predictions": list(predictions)}
        names = [str(name) for name in self.classes]
        return {
            "predictions": [self.classes[most_likely(row)] for row in predictions],
            "probabilities": [dict(zip(names, row, strict=True)) for row in predictions],
        }

    def tensors(self) -> dict[str, dict[str, Any]]:
        """Return the outputs of the Open Inference Protocol by name: their metadata."""
        if self.classes is None:
            names = ("prediction", "probability") if self.classifies else ("prediction",)
            return {name: {"name": name, "datatype": "FP64", "shape": [-1]} for name in names}
        return {
            "prediction": {
                "name": "prediction",
                "datatype": "INT64" if isinstance(self.classes[0], int) else "BYTES",
                "shape": [-1],
            },
            "probabilities": {
                "name": "probabilities",
                "datatype": "FP64",
                "shape": [-1, len(self.classes)],
                "parameters": {"classes": json.dumps(self.classes)},
            },
        }

    def outputs(self, names: Sequence[str], predictions: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the outputs of these names in a response of the Open Inference Protocol."""
        tensors, fields = self.tensors(), self.fields(predictions)
        data = {"prediction": fields["predictions"], "probability": fields["predictions"]}
        if self.classes is not None:
            data["probabilities"] = [number for row in predictions for number in row]
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
