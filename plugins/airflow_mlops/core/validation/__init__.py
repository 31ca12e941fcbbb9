"""Validation: what the expectations say of a snapshot, and where its bad rows go."""
