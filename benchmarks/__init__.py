"""Benchmarks: each measures a figure and that of a peer in one run. ``make bench`` runs them."""
