"""One partition through a loop in a scratch place, of which nothing is kept."""
