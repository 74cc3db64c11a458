"""Where work runs, one file each."""
