"""Where rows, versions and predictions came from, as plain records: read from the ledger and its evidence alone."""
