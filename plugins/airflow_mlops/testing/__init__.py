"""For tests of loops: Airflow in process or whole, its stores in memory or embedded, and real gateways."""
