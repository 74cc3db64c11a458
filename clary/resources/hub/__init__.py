"""Hubs of models and notebooks."""
