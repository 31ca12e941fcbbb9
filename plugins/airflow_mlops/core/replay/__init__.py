"""Replay recorded history under other retrain policies (counterfactual evaluation)."""
