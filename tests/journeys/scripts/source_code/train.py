"""Script mode: train a forest, print what the metric definitions look for, and serve it with handlers."""

import argparse
import json
import os
from pathlib import Path

import joblib
import numpy
from greeting import greeting
from sklearn.ensemble import RandomForestClassifier

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trees", type=int)
    parser.add_argument("--label", type=str)
    parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
    options = parser.parse_args()
    rows = numpy.loadtxt(Path(options.train) / "train.csv", delimiter=",")
    model = RandomForestClassifier(n_estimators=options.trees, random_state=7)
    model.fit(rows[:, 1:], rows[:, 0])
    print(greeting(options.label), flush=True)
    for epoch in range(3):
        print(f"epoch={epoch} train_accuracy={0.5 + epoch / 10:.3f};", flush=True)
    print(f"train_accuracy={model.score(rows[:, 1:], rows[:, 0]):.3f};", flush=True)
    joblib.dump(model, Path(os.environ["SM_MODEL_DIR"]) / "model.joblib")
    seen = {name: os.environ[name] for name in ("SM_HOSTS", "SM_CURRENT_HOST", "SM_HPS")}
    (Path(os.environ["SM_OUTPUT_DATA_DIR"]) / "seen.json").write_text(json.dumps(seen))


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")


def input_fn(body, content_type):
    assert content_type == "application/json", content_type
    return numpy.array(json.loads(body)["rows"])


def predict_fn(rows, model):
    return model.predict_proba(rows)[:, 1] * float(os.environ.get("SCALE", "1"))


def output_fn(scores, accept):
    return json.dumps({"scores": scores.tolist(), "accept": accept}), "application/json"
