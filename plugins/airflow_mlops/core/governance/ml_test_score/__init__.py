"""The ML Test Score of a loop, item by item."""
