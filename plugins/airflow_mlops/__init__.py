"""airflow-mlops: declare a model once, and Airflow keeps it fresh.

The public names are imported when they are first used, so a Dag file pays only for what it builds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from airflow_mlops.release import __version__ as __version__

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.loop import Loop as Loop
    from airflow_mlops.core.errors import MlopsError as MlopsError
    from airflow_mlops.factories.build_dags import build_dags as build_dags

_PUBLIC = {
    "build_dags": "airflow_mlops.factories.build_dags",
    "Loop": "airflow_mlops.core.declaration.loop",
    "MlopsError": "airflow_mlops.core.errors",
    "TakeSnapshotOperator": "airflow_mlops.operators.data",
    "PublishSnapshotOperator": "airflow_mlops.operators.data",
    "TakeLabelsOperator": "airflow_mlops.operators.labels",
    "TidyLakeOperator": "airflow_mlops.operators.data",
    "ValidateSnapshotOperator": "airflow_mlops.operators.validation",
    "ValidateTableOperator": "airflow_mlops.operators.validate_table",
    "AssembleTrainingOperator": "airflow_mlops.operators.training",
    "FitCandidateOperator": "airflow_mlops.operators.training",
    "EvaluateCandidatesOperator": "airflow_mlops.operators.evaluation",
    "RequireGatesOperator": "airflow_mlops.operators.evaluation",
    "RegisterCandidateOperator": "airflow_mlops.operators.registry",
    "VerifyVersionsOperator": "airflow_mlops.operators.registry",
    "ScorePartitionOperator": "airflow_mlops.operators.rollout",
    "StartRolloutOperator": "airflow_mlops.operators.rollout",
    "AdvanceRolloutOperator": "airflow_mlops.operators.rollout",
    "AnalyseRolloutOperator": "airflow_mlops.operators.rollout",
    "RunRolloutStageOperator": "airflow_mlops.operators.rollout",
    "RollBackModelOperator": "airflow_mlops.operators.rollout",
    "ControlLoopOperator": "airflow_mlops.operators.control",
    "RolloutSensor": "airflow_mlops.sensors.rollout",
    "SageMakerUpdateWeightsOperator": "airflow_mlops.operators.sagemaker_endpoints",
    "SageMakerShadowOperator": "airflow_mlops.operators.sagemaker_endpoints",
    "SageMakerGuardrailOperator": "airflow_mlops.operators.sagemaker_endpoints",
    "DetectDriftOperator": "airflow_mlops.operators.watch",
    "MeasurePerformanceOperator": "airflow_mlops.operators.watch",
    "MeasureRegretOperator": "airflow_mlops.operators.watch",
    "RunChecksOperator": "airflow_mlops.operators.watch",
    "WatchOverdueOperator": "airflow_mlops.operators.watch",
    "ProfilePartitionOperator": "airflow_mlops.operators.watch",
    "RecordOutsideAlarmOperator": "airflow_mlops.operators.watch",
    "EmitRetrainOperator": "airflow_mlops.operators.watch",
    "OutsideMonitorTrigger": "airflow_mlops.triggers.outside_monitor",
    "DecideRetrainOperator": "airflow_mlops.operators.watch",
    "ApproveVersionOperator": "airflow_mlops.operators.approval",
    "ApproveStageOperator": "airflow_mlops.operators.approval",
    "ProveVersionOperator": "airflow_mlops.operators.governance",
    "ReconcileOperator": "airflow_mlops.operators.governance",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
