"""Hooks: Airflow connections become the ports of the core."""
