"""A training script of SDK v3: hyperparameters as arguments and in SM_HPS, data and model folders as variables."""

import argparse
import json
import os
from pathlib import Path

import joblib
import numpy
from sklearn.ensemble import RandomForestClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--trees", type=int)
parser.add_argument("--label", type=str)
options = parser.parse_args()
rows = numpy.loadtxt(Path(os.environ["SM_CHANNEL_TRAIN"]) / "train.csv", delimiter=",")
model = RandomForestClassifier(n_estimators=options.trees, random_state=7)
model.fit(rows[:, 1:], rows[:, 0])
print(
    f"{options.label} of {len(model.estimators_)} trees; {json.loads(os.environ['SM_HPS'])}",
    flush=True,
)
print(f"train_accuracy={model.score(rows[:, 1:], rows[:, 0]):.3f};", flush=True)
joblib.dump(model, Path(os.environ["SM_MODEL_DIR"]) / "model.joblib")
