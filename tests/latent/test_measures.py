"""Every measure against the linear-Gaussian model, where the truth is known."""

import math

import pytest
import torch
from oracle import LinearGaussian, VectorBatch, cut

from latent.measures import (
    active_units,
    bootstrap_estimate,
    encode_split,
    importance_weighted,
    judge,
    mean_estimate,
    mutual_information,
    ratio_estimate,
    share_estimate,
    shuffled_gain,
)
from latent.measures.intervals import Estimate

CPU = torch.device("cpu")


def test_elbo_equals_log_p_where_the_posterior_is_exact() -> None:
    model = LinearGaussian()
    batch = model.draw(200)
    terms = model(batch, 3)
    exact = model.marginal().log_prob(batch.x)
    # log p(x|z) + log p(z) - log q(z|x) is log p(x) for every z: zero variance
    torch.testing.assert_close(terms.log_weight, exact.expand(3, -1))
    torch.testing.assert_close(terms.importance_weighted_bound, exact)


def test_bounds_are_ordered_and_converge() -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    batch = model.draw(400)
    exact = model.marginal().log_prob(batch.x).mean().item()
    bounds = [-importance_weighted(model, [batch], CPU, k, seed=1).nll.mean().item() for k in (1, 5, 50, 2000)]
    elbo = model(batch, 200).elbo.mean().item()
    assert elbo < bounds[1] < bounds[2] < bounds[3] < exact + 0.02
    assert bounds[3] == pytest.approx(exact, abs=0.02)
    assert bounds[0] == pytest.approx(elbo, abs=0.3)


def test_importance_weighting_in_chunks_is_the_same_estimate() -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    batch = model.draw(7)
    whole = importance_weighted(model, [batch], CPU, 4000, rows_at_once=10**6)
    chunked = importance_weighted(model, [batch], CPU, 4000, rows_at_once=7 * 13)
    torch.testing.assert_close(whole.nll, chunked.nll, atol=0.08, rtol=0)
    torch.testing.assert_close(whole.effective_sample_size, chunked.effective_sample_size, atol=0, rtol=0.2)


def test_effective_sample_size_is_k_where_the_posterior_is_exact() -> None:
    model = LinearGaussian()
    found = importance_weighted(model, [model.draw(5)], CPU, 64)
    torch.testing.assert_close(found.effective_sample_size, torch.full((5,), 64.0, dtype=torch.float64))


def test_importance_weighting_refuses_no_samples() -> None:
    model = LinearGaussian()
    with pytest.raises(ValueError, match=r"at least 1 \(got 0\)"):
        importance_weighted(model, [model.draw(5)], CPU, 0)


def test_mutual_information_converges_to_the_exact_one() -> None:
    model = LinearGaussian()
    split = encode_split(model, [model.draw(4000)], CPU)
    found = mutual_information(split.posterior, split.z)
    assert found.low <= model.mutual_information() + 0.05
    assert found.value == pytest.approx(model.mutual_information(), abs=0.1)


def test_mutual_information_is_zero_when_collapsed_and_at_most_log_n() -> None:
    model = LinearGaussian()
    with torch.no_grad():
        model.w.zero_()
    split = encode_split(model, [model.draw(50)], CPU)
    assert mutual_information(split.posterior, split.z).value == pytest.approx(0.0, abs=1e-9)

    sharp = LinearGaussian(slack=1e-4)
    split = encode_split(sharp, [sharp.draw(50)], CPU)
    assert mutual_information(split.posterior, split.z).value == pytest.approx(math.log(50), abs=1e-6)


def test_active_units_counts_the_dimensions_that_vary() -> None:
    generator = torch.Generator().manual_seed(0)
    deviations = torch.tensor([1.0, 0.2, 0.05, 0.0])
    means = torch.randn(2000, 4, generator=generator) * deviations + 3.0
    found = active_units(means)
    assert (found.count.value, found.count_at_0_001, found.count_at_0_1) == (2, 3, 1)
    torch.testing.assert_close(found.variances, means.var(0, correction=0), rtol=1e-4, atol=1e-6)


def test_shuffled_gain_is_zero_when_the_decoder_ignores_z_and_positive_when_it_does_not() -> None:
    model = LinearGaussian()
    batch = model.draw(300)
    split = encode_split(model, [batch], CPU)
    assert shuffled_gain(model, [batch], split, CPU).low > 1.0
    with torch.no_grad():
        model.w.zero_()
    split = encode_split(model, [batch], CPU)
    assert shuffled_gain(model, [batch], split, CPU).value == pytest.approx(0.0, abs=1e-9)


class Recording(LinearGaussian):
    seen: torch.Tensor | None = None

    def log_likelihood(self, z: torch.Tensor, batch: VectorBatch) -> torch.Tensor:
        self.seen = z[0]
        return super().log_likelihood(z, batch)


@pytest.mark.parametrize("size", [2, 3, 17])
def test_shuffling_gives_every_example_another_ones_z(size: int) -> None:
    model = Recording()
    batch = model.draw(size)
    split = encode_split(model, [batch], CPU)
    shuffled_gain(model, [batch], split, CPU)
    assert (model.seen != split.z).any(1).all()
    torch.testing.assert_close(model.seen.sort(0).values, split.z.sort(0).values)


def test_a_split_in_shuffled_batches_comes_back_in_its_own_order() -> None:
    model = LinearGaussian()
    batch = model.draw(11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    whole, pieces = encode_split(model, [batch], CPU), encode_split(model, cut(batch, [4, 5, 2], order), CPU)
    torch.testing.assert_close(whole.posterior.mean, pieces.posterior.mean)
    torch.testing.assert_close(whole.kl, pieces.kl)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        encode_split(LinearGaussian(), [], CPU)


@pytest.mark.parametrize("kind", ["mean", "ratio", "bootstrap", "share"])
def test_intervals_cover(kind: str) -> None:
    """95 % intervals hold the truth in 93 % to 97 % of many seeded repetitions (two standard errors of the share)."""
    repetitions, size = 600, 400
    generator = torch.Generator().manual_seed(5)
    hits = 0
    for _ in range(repetitions):
        a = torch.rand(size, generator=generator, dtype=torch.float64).log().neg()
        b = 1 + torch.rand(size, generator=generator, dtype=torch.float64)
        if kind == "mean":
            estimate, truth = mean_estimate(a), 1.0
        elif kind == "ratio":
            estimate, truth = ratio_estimate(a * b, b), 1.0
        elif kind == "share":
            estimate, truth = share_estimate(a > 3.0), math.exp(-3.0)
        else:
            estimate, truth = bootstrap_estimate(lambda w, a=a: w @ a, size, num_resamples=400), 1.0
        hits += estimate.low <= truth <= estimate.high
    assert 0.925 <= hits / repetitions <= 0.975


def test_one_example_has_no_interval() -> None:
    found = mean_estimate(torch.tensor([3.0]))
    assert (found.value, found.low, found.high) == (3.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("mi", "units", "gain", "verdict"),
    [
        (Estimate(5, 4.9, 5.1), Estimate(12, 11, 13), Estimate(4, 3.8, 4.2), "used"),
        (Estimate(0.01, -0.01, 0.03), Estimate(0, 0, 0), Estimate(0.0, -0.1, 0.1), "collapsed"),
        (Estimate(0.01, -0.01, 0.03), Estimate(32, 32, 32), Estimate(0.0, -0.1, 0.1), "collapsed"),
        (Estimate(5, 4.9, 5.1), Estimate(12, 11, 13), Estimate(0.1, -0.1, 0.3), "partly used"),
        (Estimate(0.4, 0.3, 0.5), Estimate(1, 1, 1), Estimate(1.0, 0.8, 1.2), "partly used"),
    ],
)
def test_verdict(mi: Estimate, units: Estimate, gain: Estimate, verdict: str) -> None:
    found = judge(mi, units, gain)
    assert found.name == verdict
    assert len(found.reasons) == 3
