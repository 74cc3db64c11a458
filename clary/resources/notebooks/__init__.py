"""Notebook instances and what configures them."""
