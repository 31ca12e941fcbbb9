"""``python -m benchmarks.gateway_bare PORT MODEL DIGEST``: the plain FastAPI peer of the gateway."""

# No postponed annotations: FastAPI could not resolve the class of a row, which is local to a function.
import sys
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import create_model

from airflow_mlops.core.registry.model_file import load_model

COLUMNS = [f"x{number}" for number in range(20)]


def application(model: Any) -> FastAPI:
    """Return the application: one route that predicts an array, and one that sends a row back."""
    vars(model).pop("feature_names_in_", None)  # scikit-learn would warn at every array, and that costs
    columns: dict[str, Any] = dict.fromkeys(COLUMNS, (float, ...))
    row_class = create_model("Row", id=(str, ...), **columns)
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: row_class) -> dict[str, float]:
        values = [getattr(row, name) for name in COLUMNS]
        return {"prediction": float(model.predict(np.array([values]))[0])}

    @app.post("/echo")
    async def echo(row: dict[str, Any]) -> dict[str, Any]:
        return row

    return app


def main() -> None:
    """Serve until a signal ends the process."""
    port, file, digest = sys.argv[1:4]
    uvicorn.run(application(load_model(Path(file), digest)), port=int(port), access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
