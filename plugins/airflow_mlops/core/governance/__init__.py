"""Governance: evidence about a version or a loop - model card, reproduction, explained rows, ML Test Score."""
