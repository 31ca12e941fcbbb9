"""What a user declares: the loop, its parts, and how a file of it is read."""
