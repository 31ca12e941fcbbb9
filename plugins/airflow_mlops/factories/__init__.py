"""Factories: one declaration becomes the Dags of the loop."""
