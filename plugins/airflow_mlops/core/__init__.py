"""The loop itself, in plain Python: one folder per stage, and nothing here imports Airflow."""
