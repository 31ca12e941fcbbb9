"""Pages that a person reads: reports of a partition, as HTML and Markdown."""
