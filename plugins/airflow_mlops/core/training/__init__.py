"""Training: the pinned window, the user's function, the fitted candidates."""
