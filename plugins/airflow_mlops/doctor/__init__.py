"""The doctor: it looks at everything a loop needs around it, changes nothing, and names the command that mends."""
