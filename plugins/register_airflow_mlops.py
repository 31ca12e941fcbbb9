"""Registers the plugin where `plugins/` is mounted and the wheel is not installed.

Airflow imports this file because it lies in the plugins folder. With the wheel installed its entry point
registers the same plugin, and a second registration would show every page of it twice, so this file then
offers nothing.
"""

from __future__ import annotations

from importlib.metadata import entry_points

if not entry_points(group="airflow.plugins", name="airflow_mlops"):
    from airflow_mlops.ui.plugin import AirflowMlopsPlugin

    __all__ = ["AirflowMlopsPlugin"]
