"""The number of the release, for what says which one it is without importing anything else."""

__version__ = "0.1.0"
