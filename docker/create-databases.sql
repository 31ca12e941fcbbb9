-- Run once by the PostgreSQL image on an empty volume, beside the database of Airflow that it makes itself.
CREATE DATABASE mlflow;
CREATE DATABASE ledger;
