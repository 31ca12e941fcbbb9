"""The ML Test Score of a loop: 28 points, each with evidence that a reader can open."""
