"""The command line: starts and stops an installation, and speaks to it as any client does."""

from clary.cli.main import main

__all__ = ["main"]
