"""The ledger: ordered records of decisions, the state that they fold to, and the stores of both."""
