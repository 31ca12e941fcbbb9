"""Operators: one for each step of the loop, each usable alone in any Dag."""
