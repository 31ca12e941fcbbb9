"""The protocols between the core and the world: sources, tables, registry, targets, runners, keys."""
