"""The part of a model card that the evaluation report fills: metrics, slices, fairness, robustness, cost, importance."""
