"""Proof about a version: make it again, trace a row, the model card, the ML Test Score."""
