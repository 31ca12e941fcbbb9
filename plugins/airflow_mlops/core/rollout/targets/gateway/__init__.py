"""Serving by the inference gateway."""
