"""Sensors: wait for an event of a loop."""
