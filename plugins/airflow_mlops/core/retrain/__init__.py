"""When to retrain: the policy, the decision, and alarms from outside."""
