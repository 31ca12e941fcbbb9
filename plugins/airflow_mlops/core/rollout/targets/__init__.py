"""Rollout targets: a package for each."""
