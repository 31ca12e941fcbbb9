"""What waits for something of the loop."""
