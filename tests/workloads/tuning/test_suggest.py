"""Suggestions of the Gaussian process: better than chance, never twice, and only what can be tried."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import norm

from clary.workloads.tuning import gaussian_process, suggest


def ask(points, values, dimensions, *, pending=(), seed=1):
    question = {
        "dimensions": dimensions,
        "points": points,
        "values": values,
        "pending": list(pending),
        "seed": seed,
    }
    return suggest.suggest(question)["point"]


def test_a_search_comes_close_to_the_least_value_within_twenty_trials():
    """A narrow bowl in two dimensions: twenty random points come within about 0.1 of its centre."""

    def value(point):
        return (point[0] - 0.7) ** 2 + 2.0 * (point[1] - 0.2) ** 2

    random = np.random.default_rng(3)
    points = [list(one) for one in random.random((5, 2))]
    values = [value(one) for one in points]
    while len(points) < 20:
        points.append(ask(points, values, [{}, {}], seed=len(points)))
        values.append(value(points[-1]))
    assert min(values) < 1e-4


def test_only_levels_and_choices_that_can_be_tried_are_suggested_and_none_twice():
    dimensions = [{"levels": [0.0, 0.5, 1.0]}, {"choices": 2}]
    tried = [[0.0, 0.25], [0.5, 0.25], [1.0, 0.75]]
    values = [3.0, 1.0, 2.0]
    for number in range(3):
        point = ask(tried, values, dimensions, seed=number)
        assert point[0] in (0.0, 0.5, 1.0) and point[1] in (0.25, 0.75)
        assert point not in tried
        tried.append(point)
        values.append(0.5)
    assert len({tuple(one) for one in tried}) == 6


def test_what_still_runs_is_not_suggested_again():
    points, values = [[0.1], [0.5], [0.9]], [1.0, 0.2, 1.0]
    first = ask(points, values, [{}])
    second = ask(points, values, [{}], pending=[first])
    assert abs(first[0] - second[0]) > 0.01


@pytest.mark.parametrize("values", [[1.0] * 6, [1e300, 1.0, 2.0, 3.0, 1e-300, -5.0]])
def test_values_that_are_all_the_same_or_far_apart_do_no_harm(values):
    points = [[n / 10, 1 - n / 10] for n in range(6)]
    assert all(0.0 <= one <= 1.0 for one in ask(points, values, [{}, {}]))


def test_many_points_are_answered_from_the_most_telling():
    random = np.random.default_rng(1)
    points = random.random((600, 3))
    values = np.sum((points - 0.4) ** 2, axis=1)
    found = ask(points.tolist(), values.tolist(), [{}] * 3)
    assert max(abs(one - 0.4) for one in found) < 0.15


def test_the_slopes_are_those_of_the_values():
    random = np.random.default_rng(5)
    points, values = random.random((12, 3)), random.standard_normal(12)
    squares = (points[:, None, :] - points[None, :, :]) ** 2
    at = np.array([-0.5, 0.3, 0.1, 0.2, -3.0])

    def likelihood(one):
        return gaussian_process._negative_log_posterior(one, squares, values)[0]

    def slope(one):
        return gaussian_process._negative_log_posterior(one, squares, values)[1]

    assert check_grad(likelihood, slope, at) < 1e-3
    process = gaussian_process.fit(points, values, random)
    place = random.random(3)
    mean, variance, mean_slope, variance_slope = process.predict_with_gradient(place)
    told = process.predict(place[None, :])
    assert math.isclose(mean, told[0][0], abs_tol=1e-6)
    assert math.isclose(variance, told[1][0], abs_tol=1e-6)
    assert (
        check_grad(lambda one: process.predict(one[None, :])[0][0], lambda _: mean_slope, place)
        < 1e-4
    )
    assert (
        check_grad(lambda one: process.predict(one[None, :])[1][0], lambda _: variance_slope, place)
        < 1e-4
    )


def test_the_logarithm_of_the_improvement_agrees_where_it_can_be_computed_plainly():
    z = np.array([-5.0, -1.0, -0.99, 0.0, 2.0])
    plain = np.log(norm.pdf(z) + z * norm.cdf(z))
    assert np.allclose(suggest._log_h(z), plain, atol=1e-6)
    far = suggest._log_h(np.array([-50.0, -2e3, -1e6]))
    assert np.all(np.isfinite(far)) and far[0] > far[1] > far[2]
