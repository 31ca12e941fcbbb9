"""What a rollout is judged by: evidence, the boundaries of planned looks, and what each metric says at a look."""
