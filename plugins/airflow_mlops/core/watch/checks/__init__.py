"""Checks: what else is looked at on every scored partition, beside the drift of inputs and the metric."""
