"""Draft a contract from existing data, for a person to review."""
