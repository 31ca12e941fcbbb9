"""Decide when to retrain: the policy, the decision, and alarms of outside monitors."""
