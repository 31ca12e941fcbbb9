"""The files that a user of the package owns: declarations, expectations, training functions, data preparation."""
