"""Training: the pinned window, the user's function, the fit of the candidates."""
