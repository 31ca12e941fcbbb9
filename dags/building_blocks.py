"""An ordinary Airflow Dag of every stage as an operator: no assets, no partitions, your own order.

`build_dags` is the short way. This is the long one, for whoever has a Dag already and wants some of its steps:
each operator takes the declaration and the partition, and may stand alone, between tasks of your own.
Trigger it with the date of a partition, then with the next one; from the second on there is a model.
"""

from pathlib import Path

from airflow.sdk import DAG, Param

from airflow_mlops import (
    AssembleTrainingOperator,
    DecideRetrainOperator,
    DetectDriftOperator,
    EvaluateCandidatesOperator,
    FitCandidateOperator,
    Loop,
    MeasurePerformanceOperator,
    ProveVersionOperator,
    PublishSnapshotOperator,
    ReconcileOperator,
    RegisterCandidateOperator,
    RequireGatesOperator,
    RunRolloutStageOperator,
    ScorePartitionOperator,
    StartRolloutOperator,
    TakeSnapshotOperator,
    ValidateSnapshotOperator,
    VerifyVersionsOperator,
)

# A model of its own: the same flights as in flight_air_time, and nothing else in common with it.
LOOP = Loop(
    model="building_blocks",
    owner="network-planning",
    data={
        "source": {"kind": "parquet", "uri": "include/data/flights_air_time/{partition}.parquet"},
        "contract": "include/contracts/flights_air_time.yaml",
        "key": "flight_id",
        "time": "scheduled_departure",
        "label": "air_time",
        "expectations": "include/expectations/flights.yaml",
    },
    train={"function": "include.flights.training:air_time_candidates", "window": 1},
    gates=[{"metric": "mae", "at_most": 20.0}, {"metric": "mae", "no_worse_than_champion_by": 0.10}],
    rollout={"stages": [{"shadow": 100}, {"live": 100}]},
    watch={"drift": {"alarm_rate": 0.01}, "performance": {"metric": "mae", "worse_by": 0.10}},
    retrain={"policy": {"clock": 4, "or_alarm": True}},
)

# What every step is told. The partition could come from anywhere: here a person types it.
STEP = {"loop": LOOP, "root": str(Path(__file__).resolve().parents[1]), "partition": "{{ params.partition }}"}

with DAG(
    "building_blocks",
    description="Every stage as an operator in an ordinary Dag",
    schedule=None,
    params={"partition": Param("2013-01-06", type="string", format="date", description="a Sunday of 2013")},
    max_active_runs=1,
    tags=["airflow-mlops", "example"],
) as dag:
    # Data: taken as it arrived, checked, published.
    snapshot = TakeSnapshotOperator(task_id="snapshot", **STEP)
    validated = ValidateSnapshotOperator(task_id="validate", manifest=snapshot.output, **STEP)
    publish = PublishSnapshotOperator(task_id="publish", manifest=snapshot.output, validated=validated.output, **STEP)

    # Serve and watch: skipped while there is no champion.
    score = ScorePartitionOperator(task_id="score", **STEP)
    drift = DetectDriftOperator(task_id="drift", **STEP)
    performance = MeasurePerformanceOperator(task_id="performance", **STEP)
    publish >> score >> [drift, performance]

    # Decide, whether or not there was something to watch.
    reconcile = ReconcileOperator(task_id="reconcile", trigger_rule="none_failed", **STEP)
    decide = DecideRetrainOperator(task_id="decide", trigger="nightly", trigger_rule="none_failed", **STEP)
    verify = VerifyVersionsOperator(task_id="verify", **STEP)
    [drift, performance] >> reconcile >> [decide, verify]

    # Train: skipped unless a retrain was decided. A person's run of this Dag is no request to retrain.
    assignments = AssembleTrainingOperator(task_id="assemble", by_hand=False, **STEP)
    fits = FitCandidateOperator.partial(task_id="fit", **STEP).expand(assignment=assignments.output)
    evaluated = EvaluateCandidatesOperator(task_id="evaluate", fits=fits.output, **STEP)
    gate = RequireGatesOperator(task_id="gate", evaluated=evaluated.output, **STEP)
    register = RegisterCandidateOperator(task_id="register", evaluated=evaluated.output, **STEP)
    prove = ProveVersionOperator(task_id="prove", registered=register.output, **STEP)
    decide >> assignments
    gate >> register

    # Roll out: the new candidate, or one of an earlier run that is still under way. Where a person has to agree,
    # ApproveVersionOperator goes before the start.
    start = StartRolloutOperator(task_id="start", trigger_rule="none_failed", **STEP)
    shadow = RunRolloutStageOperator(task_id="shadow", version=start.output, index=0, **STEP)
    live = RunRolloutStageOperator(task_id="live", version=start.output, index=1, **STEP)
    prove >> start >> shadow >> live
