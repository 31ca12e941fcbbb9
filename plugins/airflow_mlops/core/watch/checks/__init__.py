"""Checks of a scored partition beside the drift of inputs and the metric."""
