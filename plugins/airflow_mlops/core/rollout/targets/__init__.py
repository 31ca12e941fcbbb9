"""Who serves a model: one room for each target."""
