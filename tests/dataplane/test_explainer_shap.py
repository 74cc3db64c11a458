"""Kernel SHAP on functions whose Shapley values are known."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from clary.dataplane.explainer_shap import attributions, coalitions, sample_count


def explained(model, record, baseline, samples=None, seed=7):
    """The attributions of a function of one record, with one baseline record."""
    features = len(record)
    masks = coalitions(features, sample_count(features, samples), seed)

    def value(mask):
        mixed = [record[i] if mask >> i & 1 else baseline[i] for i in range(features)]
        return [model(mixed)]

    whole = (1 << features) - 1
    predicted = [value(mask) for mask in masks]
    found = attributions(masks, predicted, value(0), value(whole), features)
    return [one[0] for one in found]


def shapley(model, record, baseline):
    """By its definition: the mean contribution over all orders of the features."""
    found, orders = [0.0] * len(record), list(permutations(range(len(record))))
    for order in orders:
        mixed = list(baseline)
        before = model(mixed)
        for feature in order:
            mixed[feature] = record[feature]
            after = model(mixed)
            found[feature] += (after - before) / len(orders)
            before = after
    return found


@pytest.mark.parametrize(
    ("features", "wanted", "samples"),
    [(10, None, 1022), (20, None, 2088), (4, 100, 14), (20, 500, 500), (1, None, 0)],
)
def test_the_number_of_samples_is_as_documented(features, wanted, samples):
    assert sample_count(features, wanted) == samples


@pytest.mark.parametrize("features", [1, 2, 3, 6])
def test_few_features_get_their_exact_shapley_values(features):
    def model(x):
        return x[0] * x[-1] + max(x) + 2 * sum(x[1:])

    record, baseline = [3.0, -1.0, 2.0, 5.0, 0.5, 4.0][:features], [1.0] * features
    assert explained(model, record, baseline) == pytest.approx(
        shapley(model, record, baseline), abs=1e-8
    )


@pytest.mark.parametrize(("features", "samples"), [(15, None), (40, 400), (12, 5)])
def test_many_features_of_a_linear_model_get_their_own_shares(features, samples):
    chance = random.Random(3)
    weights = [chance.uniform(-2, 2) for _ in range(features)]
    record = [chance.uniform(-5, 5) for _ in range(features)]
    found = explained(
        lambda x: sum(w * one for w, one in zip(weights, x, strict=True)),
        record,
        [0.0] * features,
        samples,
    )
    wanted = [w * one for w, one in zip(weights, record, strict=True)]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_sampled_attributions_add_up_and_repeat_with_their_seed():
    def model(x):
        return x[0] * x[1] + x[2] ** 2 - x[19]

    record, baseline = [float(one) for one in range(20)], [0.5] * 20
    first, again = (explained(model, record, baseline, 300) for _ in range(2))
    assert first == again
    assert sum(first) == pytest.approx(model(record) - model(baseline))
