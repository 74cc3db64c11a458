"""Monitoring: what is watched, how, and what was found."""
