"""The mechanism under every kind: declarations, verbs, the registry of operations, and calls."""
