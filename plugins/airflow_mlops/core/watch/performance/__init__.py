"""Performance: what a version costs on labelled rows, and whether that is worse than it was."""
