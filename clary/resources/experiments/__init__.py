"""Experiments, their trials, and the components of trials."""
