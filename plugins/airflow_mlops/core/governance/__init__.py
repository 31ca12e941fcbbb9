"""Governance: the ledger of what was decided, the state folded from it, and its repair."""
