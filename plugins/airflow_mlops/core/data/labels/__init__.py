"""Labels that arrive later: deliveries of a source of their own, joined to the rows by their key."""
