"""Estimates with their 95 % confidence intervals over the examples of a split."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from scipy.special import stdtrit
from torch import Tensor

NORMAL_QUANTILE = 1.959963984540054  # of 97.5 %


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """The three numbers by name, as reports and JSON show them."""
        return asdict(self)


UNDEFINED = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class PerExample:
    """A figure as the mean of N values, one of each example, so that two runs can be compared pair by pair."""

    values: Float[Tensor, " N"]

    @property
    def estimate(self) -> Estimate:
        """The mean and its interval."""
        return mean_estimate(self.values)


def student_quantile(degrees: float) -> float:
    """Of 97.5 %, for so many degrees of freedom: 12.7 for 1, 2.09 for 19, 1.96 for very many."""
    return float(stdtrit(degrees, 0.975))


def mean_estimate(values: Float[Tensor, " N"]) -> Estimate:
    r"""The mean of N independent values; half-width \(t_{0.975, N-1}\) standard errors, infinite for a single value."""
    values = values.double()
    mean = values.mean().item()
    half = _half_width(values)
    return Estimate(mean, mean - half, mean + half)


def _half_width(values: Float[Tensor, " N"]) -> float:
    """Student's, of the mean of N independent values."""
    if len(values) < 2:
        return math.inf
    return student_quantile(len(values) - 1) * values.std().item() / math.sqrt(len(values))


def chain_estimate(values: Float[Tensor, " N"]) -> Estimate:
    r"""The mean of N values on a ring, each of which shares a part with the next and with no other.

    The variance of the mean is \((\gamma_0 + 2\gamma_1)/N\), with the covariance of neighbours where that is positive
    (Hoeffding & Robbins 1948, "The Central Limit Theorem for Dependent Random Variables").
    """
    independent, centred = mean_estimate(values), values.double() - values.double().mean()
    variance, covariance = centred.square().mean().item(), (centred * centred.roll(1)).mean().item()
    longer = math.sqrt(1 + 2 * max(covariance, 0.0) / variance) if variance > 0 else 1.0
    mean, half = independent.value, (independent.high - independent.value) * longer
    return Estimate(mean, mean - half, mean + half)


def ratio_estimate(numerators: Float[Tensor, " N"], denominators: Float[Tensor, " N"]) -> Estimate:
    r"""Σ a / Σ b over N pairs; the standard error by the delta method, \(\mathrm{sd}(a - rb) / (\bar b \sqrt N)\).

    With Student's quantile, as a mean's. Reference: Cochran 1977, "Sampling Techniques", equation 6.13.
    """
    a, b = numerators.double(), denominators.double()
    ratio = (a.sum() / b.sum()).item()
    half = _half_width((a - ratio * b) / b.mean())
    return Estimate(ratio, ratio - half, ratio + half)


def exponential(rate: Estimate) -> Estimate:
    """e to the power of a rate in nats and of its bounds."""
    return Estimate(*(math.exp(bound) if bound < 700 else math.inf for bound in (rate.value, rate.low, rate.high)))


def quantile_estimate(values: Float[Tensor, " N"], share: float) -> Estimate:
    r"""The value below which a share p of the examples lies; its interval between two order statistics.

    Their ranks are \(Np \pm 1.96 \sqrt{Np(1-p)}\), rounded up and kept within the sample, whatever the values'
    distribution; where the sample ends before them the interval is too short. Reference: Conover 1999, "Practical
    Nonparametric Statistics", section 3.2.
    """
    ordered, n = values.double().sort().values, len(values)
    half = NORMAL_QUANTILE * math.sqrt(n * share * (1 - share))
    first, last = max(math.ceil(n * share - half), 1), min(math.ceil(n * share + half), n)
    value = torch.quantile(ordered, share).item()
    return Estimate(value, ordered[first - 1].item(), ordered[last - 1].item())


def share_estimate(hits: Bool[Tensor, " N"]) -> Estimate:
    """The share of N examples; the Wilson score interval, which is not empty where none or all of them hit.

    Reference: Brown, Cai & DasGupta 2001, "Interval Estimation for a Binomial Proportion", section 3.1.1.
    """
    n, share, z2 = len(hits), hits.double().mean().item(), NORMAL_QUANTILE**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def bootstrap_estimate(
    statistic: Callable[[Float[Tensor, "R N"]], Float[Tensor, " R"]],
    num_examples: int,
    seed: int = 0,
    num_resamples: int = 1000,
) -> Estimate:
    """The percentile bootstrap (Efron & Tibshirani 1993, chapter 13) of a function of weighted examples.

    `statistic` maps R rows of weights over the N examples (each row sums to 1) to R values; it is called once with
    uniform weights for the value and once with the resamples' weights.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(num_examples, (num_resamples, num_examples), generator=generator)
    counts = torch.zeros(num_resamples, num_examples, dtype=torch.float64)
    counts.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
    resampled = statistic(counts / num_examples)
    value = statistic(torch.full((1, num_examples), 1.0 / num_examples, dtype=torch.float64)).item()
    low, high = torch.quantile(resampled.double(), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(value, low, high)
