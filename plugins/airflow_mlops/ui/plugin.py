"""The Airflow plugin: makes the installed package known on Airflow's plugin page."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class AirflowMlopsPlugin(AirflowPlugin):
    """Registers the package with Airflow. It opens no route and imports nothing heavy."""

    name = "airflow_mlops"
