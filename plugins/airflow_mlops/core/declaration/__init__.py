"""The declaration of a loop: its sections, and the strict reader of its YAML file."""
