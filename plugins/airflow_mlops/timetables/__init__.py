"""Timetables of Airflow for the partitions of a loop."""
