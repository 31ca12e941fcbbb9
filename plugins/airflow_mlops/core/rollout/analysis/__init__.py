"""How a stage of a rollout is judged."""
