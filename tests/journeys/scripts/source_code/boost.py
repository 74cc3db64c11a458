"""Script mode in the XGBoost image."""

import argparse
import os
from pathlib import Path

import numpy
import xgboost

parser = argparse.ArgumentParser()
parser.add_argument("--num_round", type=int)
options = parser.parse_args()
rows = numpy.loadtxt(Path(os.environ["SM_CHANNEL_TRAIN"]) / "train.csv", delimiter=",")
matrix = xgboost.DMatrix(rows[:, 1:], label=rows[:, 0])
booster = xgboost.train({"objective": "binary:logistic"}, matrix, options.num_round)
booster.save_model(Path(os.environ["SM_MODEL_DIR"]) / "xgboost-model")
print(f"boosted {booster.num_boosted_rounds()} rounds", flush=True)
