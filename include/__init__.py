"""What a user of the pack owns: declarations, expectations, training functions and data preparation."""
