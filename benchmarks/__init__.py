"""Benchmarks: each figure beside a peer, measured side by side in one run. ``make bench`` runs them."""
