"""Metrics of loops for Prometheus, with alert rules and a dashboard."""
