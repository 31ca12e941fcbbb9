"""Pages and links that the package adds to the Airflow UI."""
