"""The demo: the flights of 2013 replayed through both loops by a real Airflow, as if live."""
