"""Profiles: counts of the rows of a partition that merge by addition."""
