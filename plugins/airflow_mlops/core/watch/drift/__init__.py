"""Drift: the profile of a window, its distance from the reference, and the verdict on it."""
