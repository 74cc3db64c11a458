"""The model registry: groups, packages and cards."""
