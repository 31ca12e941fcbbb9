"""Replay: what other retrain policies would have made of a loop's own history."""
