"""Where the splits of a partition are worked on."""
