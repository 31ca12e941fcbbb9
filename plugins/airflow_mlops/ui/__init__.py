"""What the package adds to Airflow itself."""
