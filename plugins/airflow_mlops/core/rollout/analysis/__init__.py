"""The statistics of a stage's verdict: evidence, boundaries of interim analyses, and the result of each metric."""
