"""Where every loop stands, for people: read from ledgers and their evidence alone."""
