"""Recorded history lived through again, under other policies."""
