"""What was decided, in order: records, the state they fold to, and the stores that keep them."""
