"""The interval of a statistic that a bootstrap would bias: one whose value changes when an example is there twice."""

import math
from collections.abc import Callable

import numpy as np

from latent.measures.intervals import Estimate, student_quantile

NUM_GROUPS = 20


def jackknife_estimate(statistic: Callable[..., float], *sizes: int) -> Estimate:
    r"""A statistic of one or more samples of the given sizes, and its interval by leaving out a twentieth of each.

    `statistic` takes, for each sample, the indices that are kept, and is called with all of them and 20 times without
    those that are g modulo 20: \(s^2 = \frac{19}{20} \sum_g (\theta_{(g)} - \bar\theta)^2\), with Student's quantile.
    It serves where resampling with replacement would distort the value itself, as it does for numbers of distinct
    things; its variance is too large rather than too small in expectation (Efron & Stein 1981). The interval is
    infinite where a sample has fewer than 20 members.

    Reference: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11.
    """
    samples = [np.arange(size) for size in sizes]
    value = statistic(*samples)
    if min(sizes) < NUM_GROUPS:
        return Estimate(value, -math.inf, math.inf)
    left_out = [statistic(*(kept[kept % NUM_GROUPS != group] for kept in samples)) for group in range(NUM_GROUPS)]
    half = student_quantile(NUM_GROUPS - 1) * math.sqrt(NUM_GROUPS - 1) * float(np.std(left_out))
    return Estimate(value, value - half, value + half)
