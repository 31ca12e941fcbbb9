"""All checks of the doctor, in the order of its report."""

from __future__ import annotations

from airflow_mlops.doctor.check_airflow import check_dags, check_database, check_executor, check_pools, check_warmth
from airflow_mlops.doctor.check_loops import check_loops
from airflow_mlops.doctor.check_packages import check_plugin, check_versions
from airflow_mlops.doctor.check_servers import check_clock, check_mlflow
from airflow_mlops.doctor.check_stores import check_connections, check_folders, check_home, check_ledger
from airflow_mlops.doctor.diagnosis import Check

# Those that import libraries, or run code of the user's, take longer on a busy machine.
CHECKS = (
    Check("versions", check_versions),
    Check("home", check_home),
    Check("connections", check_connections),
    Check("ledger", check_ledger),
    Check("folders", check_folders),
    Check("mlflow", check_mlflow),
    Check("clock", check_clock),
    Check("executor", check_executor),
    Check("database", check_database),
    Check("plugin", check_plugin, seconds=30),
    Check("workers", check_warmth),
    Check("loops", check_loops, seconds=60),
    Check("dags", check_dags),
    Check("pools", check_pools),
)
