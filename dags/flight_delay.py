"""Airflow Dags of the delay model: declared in Python, retrained when its regret exceeds a price."""

from airflow_mlops import Loop, build_dags

build_dags(
    Loop(
        model="flight_delay",
        owner="passenger-care",
        purpose="Says before departure which passengers may miss a connection; not for paying compensation.",
        tier="medium",
        data={
            "source": {"kind": "parquet", "uri": "include/data/flights_delay/{partition}.parquet"},
            "every": "@weekly",
            "from": "2013-01-06",
            "until": "2014-01-05",
            "contract": "include/contracts/flights_delay.yaml",
            "key": "flight_id",
            "time": "scheduled_departure",
            "label": "arrived_late",
            "expectations": "include/expectations/flights.yaml",
        },
        train={"function": "include.flights.training:delay_candidates", "window": "all", "at_least": 8},
        gates=[{"metric": "log_loss", "at_most": 0.8}],
        evaluate={"slices": ["carrier", "origin"], "groups": ["origin"]},
        watch={"drift": {"alarm_rate": 0.01}, "performance": {"metric": "log_loss", "worse_by": 0.15}},
        retrain={"policy": {"regret": 0.02}},
    )
)
