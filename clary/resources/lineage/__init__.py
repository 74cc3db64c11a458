"""Artifacts, contexts, actions, and how they hang together."""
