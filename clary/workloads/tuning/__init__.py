"""The search of a tuning job: which hyperparameters to try next. It runs in a process of its own."""
