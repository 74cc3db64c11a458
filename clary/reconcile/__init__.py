"""Lifecycles, decisions, and the one loop that acts on them."""
