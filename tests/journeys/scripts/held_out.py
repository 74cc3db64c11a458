"""The data of the journeys: breast-cancer rows to learn from and rows held out, and how right answers are."""

import csv
import io

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split


def split():
    """(training features, held-out features, training labels, held-out labels)."""
    features, labels = load_breast_cancer(return_X_y=True)
    return train_test_split(features, labels, test_size=0.2, random_state=7, stratify=labels)


def as_csv(labels, features):
    """Lines with the label in front, as the built-in algorithms read them."""
    text = io.StringIO()
    csv.writer(text).writerows([label, *row] for label, row in zip(labels, features, strict=True))
    return text.getvalue()


def accuracy(scores, labels):
    """The share of scores on the right side of one half."""
    scores = list(scores)
    assert len(scores) == len(labels), f"{len(scores)} scores for {len(labels)} rows"
    return sum(
        (float(score) > 0.5) == bool(label) for score, label in zip(scores, labels, strict=True)
    ) / len(labels)
