"""The jackknife where the truth is known: means, numbers of distinct things, and how often it covers."""

import math

import numpy as np
import pytest

from latent.measures import Estimate, student_quantile
from latent.measures.jackknife import NUM_GROUPS, jackknife_estimate


def half_width(found: Estimate) -> float:
    assert found.high - found.value == pytest.approx(found.value - found.low)
    return found.high - found.value


def test_of_a_mean_it_is_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=20)
    found = jackknife_estimate(lambda kept: float(values[kept].mean()), 20)
    assert found.value == pytest.approx(values.mean())
    assert half_width(found) == pytest.approx(student_quantile(NUM_GROUPS - 1) * values.std(ddof=1) / math.sqrt(20))


def test_two_samples_add_their_variances() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=4000), 3 * rng.normal(size=1000)
    repeated = [
        half_width(jackknife_estimate(lambda i, j: float(a[p][i].mean() - b[q][j].mean()), 4000, 1000))  # noqa: B023
        for p, q in ((rng.permutation(4000), rng.permutation(1000)) for _ in range(40))
    ]
    expected = student_quantile(NUM_GROUPS - 1) * math.sqrt(1 / 4000 + 9 / 1000)
    assert np.sqrt(np.square(repeated).mean()) == pytest.approx(expected, rel=0.1)


def test_it_covers_the_mean() -> None:
    values = np.random.default_rng(2).exponential(size=(500, 60))
    found = [jackknife_estimate(lambda kept, x=x: float(x[kept].mean()), 60) for x in values]
    assert 0.91 < np.mean([estimate.low <= 1 <= estimate.high for estimate in found]) < 0.98


def test_it_covers_the_expected_number_of_distinct_things_where_a_bootstrap_misses_the_value_itself() -> None:
    rng = np.random.default_rng(3)
    shares = 1 / np.arange(1, 2001)
    shares /= shares.sum()
    num_draws = 400
    truth = (1 - (1 - shares) ** num_draws).sum() / num_draws
    draws = [rng.choice(2000, num_draws, p=shares) for _ in range(300)]
    found = [jackknife_estimate(lambda kept, x=x: len(np.unique(x[kept])) / len(kept), num_draws) for x in draws]
    assert np.mean([estimate.low <= truth <= estimate.high for estimate in found]) > 0.93
    resampled = [len(np.unique(rng.choice(draws[0], num_draws))) / num_draws for _ in range(200)]
    assert np.quantile(resampled, 0.975) < found[0].value


def test_too_few_for_an_interval() -> None:
    assert jackknife_estimate(lambda *kept: 7.0, 100, 19) == Estimate(7.0, -math.inf, math.inf)
    assert jackknife_estimate(lambda *kept: 7.0, 100, 20) == Estimate(7.0, 7.0, 7.0)
