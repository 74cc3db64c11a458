"""A script as users tune it: hyperparameters by the command line, the objective on a line of its own."""

import argparse
import os
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

parser = argparse.ArgumentParser()
parser.add_argument("--penalty", type=float)
parser.add_argument("--iterations", type=int)
parser.add_argument("--solver")
parser.add_argument("--folds", type=int)
given = parser.parse_args()
assert given.solver in ("lbfgs", "liblinear"), given
data = np.loadtxt(Path(os.environ["SM_CHANNEL_TRAIN"]) / "train.csv", delimiter=",")
model = make_pipeline(
    StandardScaler(),
    LogisticRegression(C=given.penalty, solver=given.solver, max_iter=10 * given.iterations),
)
scores = cross_val_score(model, data[:, 1:], data[:, 0], cv=given.folds)
print(f"accuracy={scores.mean():.4f};")
joblib.dump(model.fit(data[:, 1:], data[:, 0]), Path(os.environ["SM_MODEL_DIR"]) / "model.joblib")
