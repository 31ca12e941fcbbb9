"""The metadata that Airflow reads from a provider package."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the description of this provider."""
    return {
        "package-name": "airflow-mlops",
        "name": "airflow-mlops",
        "description": "Declare a model once, and Airflow keeps it fresh.",
        "integrations": [
            {
                "integration-name": "airflow-mlops",
                "external-doc-url": "",
                "tags": ["software"],
            }
        ],
        "hooks": [
            {"integration-name": "airflow-mlops", "python-modules": ["airflow_mlops.hooks.workspace"]},
        ],
        "operators": [
            {
                "integration-name": "airflow-mlops",
                "python-modules": [
                    f"airflow_mlops.operators.{stage}"
                    for stage in (
                        "data",
                        "validation",
                        "training",
                        "evaluation",
                        "registry",
                        "rollout",
                        "watch",
                        "report",
                        "governance",
                        "sagemaker_endpoints",
                    )
                ],
            },
        ],
        "sensors": [
            {"integration-name": "airflow-mlops", "python-modules": ["airflow_mlops.sensors.rollout"]},
        ],
        "triggers": [
            {
                "integration-name": "airflow-mlops",
                "python-modules": [
                    f"airflow_mlops.triggers.{name}" for name in ("rollout", "sagemaker_settled", "outside_monitor")
                ],
            },
        ],
    }
