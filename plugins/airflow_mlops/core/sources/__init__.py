"""Where rows come from: files, databases, HTTP services, a feature store."""
