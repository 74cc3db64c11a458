"""The request chain of the control plane."""
