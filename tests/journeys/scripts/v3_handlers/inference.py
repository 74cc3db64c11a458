"""The handlers of a model that SDK v3 packs together with its artifact."""

import json
from pathlib import Path

import joblib
import numpy


def model_fn(model_dir):
    return joblib.load(Path(model_dir) / "model.joblib")


def input_fn(body, content_type):
    assert content_type == "application/json", content_type
    return numpy.array(json.loads(body))


def predict_fn(rows, model):
    return model.predict_proba(rows)[:, 1].tolist()


def output_fn(scores, accept):
    return json.dumps(scores)
