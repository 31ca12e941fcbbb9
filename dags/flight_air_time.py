"""Airflow Dags of the air-time model: declared in YAML, retrained when it goes stale."""

from airflow_mlops import build_dags

build_dags("include/loops/flight_air_time.yaml")
