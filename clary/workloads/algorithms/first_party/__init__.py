"""What the first-party tabular algorithms share: data, hyperparameters, log lines, serving."""
