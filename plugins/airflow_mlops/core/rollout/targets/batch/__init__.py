"""Serving by scoring each partition."""
