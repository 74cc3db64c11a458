"""What the network's numbers mean: the likelihood of a value, and samples from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import distributions
from torch.nn import functional

from clary.workloads.algorithms.forecasting_deepar import (
    BETA,
    DETERMINISTIC_L1,
    GAUSSIAN,
    NEGATIVE_BINOMIAL,
    STUDENT_T,
)

_SMALLEST = 1e-4
Tensor = torch.Tensor


@dataclass(frozen=True)
class Likelihood:
    """`loss(raw, level, scale, value)` and `sample(raw, level, scale)`.

    The last axis of `raw` has as many numbers as there are `outputs`.
    """

    outputs: int
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    sample: Callable[[Tensor, Tensor, Tensor], Tensor]
    support: str = "all"


def _positive(raw: Tensor) -> Tensor:
    return functional.softplus(raw) + _SMALLEST


def _student_t(raw: Tensor, level: Tensor, scale: Tensor) -> distributions.Distribution:
    middle, spread, freedom = raw.unbind(-1)
    return distributions.StudentT(
        2 + _positive(freedom),
        level + middle * scale,
        _positive(spread) * scale,
        validate_args=False,
    )


def _gaussian(raw: Tensor, level: Tensor, scale: Tensor) -> distributions.Distribution:
    middle, spread = raw.unbind(-1)
    return distributions.Normal(
        level + middle * scale, _positive(spread) * scale, validate_args=False
    )


def _beta(raw: Tensor, level: Tensor, scale: Tensor) -> distributions.Distribution:
    """The interval is not scaled: only what the network sees of the past is."""
    first, second = _positive(raw).unbind(-1)
    return distributions.Beta(first, second, validate_args=False)


def _counts(raw: Tensor, level: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and dispersion; the variance is mean + dispersion * mean^2."""
    mean, dispersion = _positive(raw).unbind(-1)
    return mean * scale, dispersion / scale.sqrt()


def _counts_loss(raw: Tensor, level: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    mean, dispersion = _counts(raw, level, scale)
    shape = 1 / dispersion
    return (
        torch.lgamma(shape)
        + torch.lgamma(value + 1)
        - torch.lgamma(value + shape)
        + shape * torch.log1p(dispersion * mean)
        - value * (torch.log(dispersion * mean) - torch.log1p(dispersion * mean))
    )


def _counts_sample(raw: Tensor, level: Tensor, scale: Tensor) -> Tensor:
    mean, dispersion = _counts(raw, level, scale)
    rates = distributions.Gamma(1 / dispersion, 1 / (dispersion * mean), validate_args=False)
    return torch.poisson(rates.sample())


def _of(
    make: Callable[[Tensor, Tensor, Tensor], distributions.Distribution],
) -> dict[str, Callable]:
    return {
        "loss": lambda raw, level, scale, value: -make(raw, level, scale).log_prob(value),
        "sample": lambda raw, level, scale: make(raw, level, scale).sample(),
    }


def _beta_loss(raw: Tensor, level: Tensor, scale: Tensor, value: Tensor) -> Tensor:
    return -_beta(raw, level, scale).log_prob(value.clamp(_SMALLEST, 1 - _SMALLEST))


LIKELIHOODS = {
    STUDENT_T: Likelihood(3, **_of(_student_t)),
    GAUSSIAN: Likelihood(2, **_of(_gaussian)),
    BETA: Likelihood(2, **{**_of(_beta), "loss": _beta_loss}, support="unit"),
    NEGATIVE_BINOMIAL: Likelihood(2, _counts_loss, _counts_sample, support="positive"),
    DETERMINISTIC_L1: Likelihood(
        1,
        lambda raw, level, scale, value: (raw[..., 0] - (value - level) / scale).abs(),
        lambda raw, level, scale: level + raw[..., 0] * scale,
    ),
}
