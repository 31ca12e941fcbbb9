"""Drift: the profile of a window, its distance from the reference, and what may be said of it."""
