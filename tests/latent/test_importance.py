"""Importance weighting against the linear-Gaussian model: bounds, ladder, errors, and draws where they are needed."""

import itertools
import math

import pytest
import torch
from oracle import LinearGaussian, VectorBatch, cut
from torch import Tensor
from torch.distributions import Distribution

from latent.distributions import diagonal_normal
from latent.measures import NotFiniteError, importance_weighted

CPU = torch.device("cpu")


class Recording(LinearGaussian):
    """Counts the examples that it encodes, and the rows of each call of its decoder."""

    num_encoded = 0
    most_rows = 0

    def posterior(self, batch: VectorBatch) -> Distribution:
        self.num_encoded += len(batch)
        return super().posterior(batch)

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        self.most_rows = max(self.most_rows, z.shape[0] * z.shape[1])
        return super().log_likelihood(z, batch)


class Uneven(Recording):
    """The posterior is exact for every other example of the split and too narrow for the rest."""

    def posterior(self, batch: VectorBatch) -> Distribution:
        q = super().posterior(batch)
        slack = torch.where(batch.indices % 2 == 0, 1.0, 0.75).double()
        return diagonal_normal(q.mean, q.stddev * slack[:, None])


def test_bounds_are_ordered_and_converge() -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    batch = model.draw(400)
    exact = model.marginal().log_prob(batch.x).mean().item()
    bounds = [-importance_weighted(model, [batch], CPU, k, seed=1).nll.mean().item() for k in (1, 5, 50, 2000)]
    elbo = model(batch, 200).elbo.mean().item()
    assert elbo < bounds[1] < bounds[2] < bounds[3] < exact + 0.02
    assert bounds[3] == pytest.approx(exact, abs=0.02)
    assert bounds[0] == pytest.approx(elbo, abs=0.3)


def test_chunks_are_the_same_estimate() -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    batch = model.draw(7)
    whole = importance_weighted(model, [batch], CPU, 4000, rows_at_once=10**6)
    chunked = importance_weighted(model, [batch], CPU, 4000, rows_at_once=7 * 13)
    torch.testing.assert_close(whole.nll, chunked.nll, atol=0.08, rtol=0)
    torch.testing.assert_close(whole.effective_sample_size, chunked.effective_sample_size, atol=0, rtol=0.2)


def test_an_exact_posterior_has_no_error() -> None:
    model = LinearGaussian()
    batch = model.draw(5)
    found = importance_weighted(model, [batch], CPU, 64)
    torch.testing.assert_close(found.nll, -model.marginal().log_prob(batch.x))
    torch.testing.assert_close(found.effective_sample_size, torch.full((5,), 64.0, dtype=torch.float64))
    assert found.half_width < 1e-6
    assert found.has_converged


def test_a_single_draw_has_no_known_error() -> None:
    model = LinearGaussian(slack=1.3)
    found = importance_weighted(model, [model.draw(5)], CPU, 1)
    assert list(found.ladder) == [1]
    assert found.sampling_error == found.bias == math.inf
    assert not found.has_converged


@pytest.mark.parametrize(
    ("num_samples", "rungs"),
    [(1, [1]), (70, [1, 10, 50, 70]), (100, [1, 10, 50, 100]), (600, [1, 10, 50, 100, 500, 600])],
)
def test_ladder_ends_at_the_headline(num_samples: int, rungs: list[int]) -> None:
    model = LinearGaussian(slack=2.0)
    found = importance_weighted(model, [model.draw(40)], CPU, num_samples)
    assert list(found.ladder) == rungs
    torch.testing.assert_close(found.ladder[num_samples], found.nll, atol=0, rtol=0)
    means = [values.mean().item() for values in found.ladder.values()]
    assert all(more < fewer + 0.02 for fewer, more in itertools.pairwise(means))


def test_each_rung_estimates_its_own_bound() -> None:
    """The blocks of 10 of 500 draws have the expectation of 10 draws, and a fiftieth of their variance."""
    model = LinearGaussian(slack=2.0)
    batch = model.draw(300)
    rung = importance_weighted(model, [batch], CPU, 500, seed=1).ladder[10]
    alone = torch.stack([importance_weighted(model, [batch], CPU, 10, seed=s).nll for s in range(2, 22)])
    difference = (rung - alone.mean(0)).mean().item()
    error = (alone.var(0) * (1 / 50 + 1 / 20)).sum().sqrt().item() / 300
    assert abs(difference) < 3 * error
    assert error < 0.02


def test_sampling_error_and_bias_hold_the_exact_nll_of_the_very_examples() -> None:
    model = LinearGaussian(slack=0.8)
    hits = 0
    for seed in range(100):
        batch = model.draw(50, seed=seed)
        exact = -model.marginal().log_prob(batch.x).mean().item()
        found = importance_weighted(model, [batch], CPU, 100, rows_at_once=10**5, seed=seed)
        hits += abs(found.estimate.value - exact) <= found.bias + found.half_width
    assert hits >= 93


def test_bias_is_seen_where_weights_have_no_variance() -> None:
    """A posterior less than 1/√2 as wide as it should be: the bound rises as a slow power of K."""
    model = LinearGaussian(slack=0.4)
    batch = model.draw(400)
    found = importance_weighted(model, [batch], CPU, 64)
    left = (found.nll + model.marginal().log_prob(batch.x)).mean().item()
    assert not found.has_converged
    assert found.doubling_gain.high < 0.3 * left  # the last gain alone promises too much
    assert 0.5 * left < found.bias < 2 * left


def test_adaptive_draws_stop_early_where_the_posterior_is_exact() -> None:
    model = LinearGaussian()
    found = importance_weighted(model, [model.draw(6)], CPU, 500, half_width=0.1)
    assert found.num_draws.tolist() == [32] * 6
    assert found.total_draws == 192
    assert list(found.ladder) == [1, 10, 32]


def test_adaptive_draws_go_where_they_are_needed() -> None:
    model = Uneven()
    batch = model.draw(41)
    batches = cut(batch, [10, 1, 30], torch.randperm(41, generator=torch.Generator().manual_seed(0)))
    found = importance_weighted(model, batches, CPU, 3000, half_width=0.01, rows_at_once=64)
    even = torch.arange(41) % 2 == 0
    assert (found.num_draws[even] == 32).all()
    assert (found.num_draws[~even] > 100).all()
    assert model.num_encoded == 41
    assert model.most_rows <= 64
    error = found.nll + model.marginal().log_prob(batch.x)
    torch.testing.assert_close(error[even], torch.zeros_like(error[even]))
    assert abs(error.mean().item()) < 0.01
    torch.testing.assert_close(found.ladder[int(found.num_draws.max())], found.nll, atol=0, rtol=0)


def test_adaptive_draws_end_at_the_given_number() -> None:
    model = LinearGaussian(slack=0.4)
    found = importance_weighted(model, [model.draw(5)], CPU, 100, half_width=1e-6)
    assert found.num_draws.tolist() == [100] * 5
    few = importance_weighted(model, [model.draw(5)], CPU, 3, half_width=1e-6)
    assert few.num_draws.tolist() == [3] * 5


def test_stopping_when_tight_adds_no_bias_of_its_own() -> None:
    """Beside the same number of draws, fixed beforehand, the means over 6,000 examples differ by less than the bias."""
    model = LinearGaussian(slack=2.0)
    adaptive, fixed = [], []
    for seed in range(20):
        batch = model.draw(300, seed=seed)
        exact = -model.marginal().log_prob(batch.x)
        found = importance_weighted(model, [batch], CPU, 2000, half_width=0.03, rows_at_once=10**5, seed=seed)
        draws = round(found.total_draws / len(batch))
        same = importance_weighted(model, [batch], CPU, draws, rows_at_once=10**5, seed=1000 + seed)
        adaptive.append((found.nll - exact).mean().item())
        fixed.append((same.nll - exact).mean().item())
        assert 32 < draws < 2000
    bias = sum(fixed) / len(fixed)
    assert 0 < bias < 0.03
    assert abs(sum(adaptive) / len(adaptive) - bias) < 0.5 * bias


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, r"at least 1 \(got 0\)"),
        ({"num_samples": 5, "half_width": 0.0}, r"positive, in nats \(got 0.0\)"),
        ({"num_samples": 5, "half_width": math.nan}, r"positive, in nats \(got nan\)"),
    ],
)
def test_wrong_calls_are_refused(arguments: dict[str, float], message: str) -> None:
    model = LinearGaussian()
    with pytest.raises(ValueError, match=message):
        importance_weighted(model, [model.draw(5)], CPU, **arguments)
    with pytest.raises(ValueError, match="no examples"):
        importance_weighted(model, [], CPU, 5)


class Impossible(LinearGaussian):
    """Gives no probability, or none that is a number, to a few examples of a split."""

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        found = super().log_likelihood(z, batch)
        for index, value in {3: -math.inf, 7: math.nan, 8: math.inf}.items():
            found = torch.where(batch.indices == index, value, found)
        return found


@pytest.mark.parametrize("half_width", [None, 0.1])
def test_examples_without_probability_are_named(half_width: float | None) -> None:
    model = Impossible()
    batches = cut(model.draw(20), [8, 12], torch.arange(20).flip(0))
    with pytest.raises(NotFiniteError, match=r"3 of 20 examples \(counted from 0: 3, 7, 8\)") as caught:
        importance_weighted(model, batches, CPU, 10, half_width=half_width)
    assert caught.value.indices == (3, 7, 8)
