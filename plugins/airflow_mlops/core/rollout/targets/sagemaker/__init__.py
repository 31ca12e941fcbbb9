"""Serving by a SageMaker endpoint."""
