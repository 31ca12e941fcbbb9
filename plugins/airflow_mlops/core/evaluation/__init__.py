"""Evaluation: metrics, the paired comparison with the champion, the gates."""
