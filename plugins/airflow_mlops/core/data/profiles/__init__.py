"""Profiles: what the rows of a partition look like, as counts that add up."""
