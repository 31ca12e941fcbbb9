"""The files of a new project and of a new model, drafted from templates and data for a person to review."""
