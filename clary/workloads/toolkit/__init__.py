"""The /opt/ml contract and the SM_* environment of script mode."""
