"""Rollout: how a challenger takes over in stages, and how it is taken back."""
