"""The assets that connect the Dags of a loop. A Dag never names another Dag."""

from __future__ import annotations

from dataclasses import dataclass

from airflow.sdk import Asset


@dataclass(frozen=True)
class LoopAssets:
    """The five assets of a model."""

    snapshot: Asset
    predictions: Asset
    retrain: Asset
    candidate: Asset
    champion: Asset

    @classmethod
    def of(cls, model: str) -> LoopAssets:
        """Return the assets of ``model``: ``mlops://<model>/snapshot`` and so on."""
        return cls(
            **{
                word: Asset(name=f"{model}_{word}", uri=f"mlops://{model}/{word}", group="airflow-mlops")
                for word in ("snapshot", "predictions", "retrain", "candidate", "champion")
            }
        )
