"""A small network of PyTorch for the minutes in the air, which leaves as an ONNX graph.

PyTorch is imported where it is used, since the workers that judge and serve the network do not have it. The how-to
page *Bring an ONNX model* shows the whole example.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from include.flights.training import NUMBERS


class AirTimeNetwork(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """One hidden layer, trained by Adam on mini-batches, in 32-bit floats on one thread of the CPU.

    Parameters
    ----------
    hidden : int
        Neurons of the hidden layer.
    epochs : int
        Passes over the rows.
    batch : int
        Rows of a step.
    rate : float
        Learning rate.
    seed : int
        Seed of the first weights and of the order of the rows.
    """

    def __init__(self, hidden: int = 12, epochs: int = 20, batch: int = 256, rate: float = 0.01, seed: int = 0) -> None:
        self.hidden, self.epochs, self.batch, self.rate, self.seed = hidden, epochs, batch, rate, seed

    def fit(self, X: Any, y: Any) -> AirTimeNetwork:
        """Train the network; the label is scaled for the fit, and the last layer takes the scale afterwards."""
        import torch

        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        random = torch.Generator().manual_seed(self.seed)
        rows, label = (torch.from_numpy(np.ascontiguousarray(values, np.float32)) for values in (X, y))
        mean, scale = label.mean(), label.std()
        target = ((label - mean) / scale).unsqueeze(1)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            net = torch.nn.Sequential(
                torch.nn.Linear(rows.shape[1], self.hidden), torch.nn.ReLU(), torch.nn.Linear(self.hidden, 1)
            )
        steps = torch.optim.Adam(net.parameters(), lr=self.rate)
        for _ in range(self.epochs):
            for chosen in torch.randperm(len(rows), generator=random).split(self.batch):
                steps.zero_grad()
                torch.nn.functional.mse_loss(net(rows[chosen]), target[chosen]).backward()
                steps.step()
        with torch.no_grad():
            net[2].weight.mul_(scale)
            net[2].bias.mul_(scale).add_(mean)
        self.net_ = net.eval()
        return self

    def predict(self, X: Any) -> Any:
        """Return the minutes, shape (n_rows,)."""
        import torch

        with torch.no_grad():
            return self.net_(torch.from_numpy(np.ascontiguousarray(X, np.float32))).numpy().ravel().astype(np.float64)

    def to_onnx(self) -> Any:
        """Return the graph for any number of rows, without the paths and lines of code that the exporter notes."""
        import torch

        example = torch.zeros(2, self.net_[0].in_features)
        rows = ({0: torch.export.Dim("count")},)
        program = torch.onnx.export(self.net_, (example,), input_names=["rows"], dynamic_shapes=rows, verbose=False)
        assert program is not None
        model = program.model_proto
        graph = model.graph
        for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            del part.metadata_props[:]
        return model


def candidates(seed: int) -> dict[str, Any]:
    """Return the unfitted network behind an encoder and a scaler; ``seed`` makes a fit repeatable."""
    columns = [
        ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier", "origin"]),
        ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
    ]
    return {"network": make_pipeline(ColumnTransformer(columns), AirTimeNetwork(seed=seed))}
