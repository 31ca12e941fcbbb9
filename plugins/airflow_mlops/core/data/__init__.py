"""Data: sources, partitions and the immutable snapshots taken of them."""
