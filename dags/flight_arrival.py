"""Airflow Dags of the arrival model: three classes, declared in YAML, retrained by the clock."""

from airflow_mlops import build_dags

build_dags("include/loops/flight_arrival.yaml")
