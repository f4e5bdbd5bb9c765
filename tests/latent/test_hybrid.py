"""The hybrid objective, and likelihoods by draws of the prior, on the model of which everything is known."""

from dataclasses import replace

import pytest
import torch
from oracle import LinearGaussian, VectorBatch
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import ElboObjective, HybridObjective, LatentModel, Linear
from latent.distributions import NormalMixturePrior
from latent.measures import FromPrior, encode_split, importance_weighted

CPU = torch.device("cpu")


@pytest.fixture
def model() -> LinearGaussian:
    return LinearGaussian(slack=1.3)


@pytest.fixture
def batch(model: LinearGaussian) -> VectorBatch:
    return model.draw(300)


class Learned(LatentModel[VectorBatch]):
    """A linear model whose posterior and prior have parameters of their own."""

    latent_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.inner = LinearGaussian()
        self.of_q, self.of_p = (torch.nn.Parameter(torch.full((3,), 0.1, dtype=torch.float64)) for _ in range(2))

    def posterior(self, batch: VectorBatch) -> Distribution:
        q = self.inner.posterior(batch)
        return type(q)(torch.distributions.Normal(q.mean + self.of_q, q.stddev), 1)

    def prior(self, batch: VectorBatch) -> Distribution:
        p = self.inner.prior(batch)
        return type(p)(torch.distributions.Normal(p.mean + self.of_p, p.stddev), 1)

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        return self.inner.log_likelihood(z, batch)


def gradients(objective: ElboObjective | HybridObjective, batch: VectorBatch) -> list[Tensor | None]:
    model = Learned()
    torch.manual_seed(3)
    terms = model(batch, objective.num_samples, from_prior=objective.from_prior)
    objective(terms, 0).value.backward()
    return [model.of_q.grad, model.of_p.grad, model.inner.w.grad]


def test_all_of_the_bound_is_the_elbo_and_needs_no_draws_of_the_prior(batch: VectorBatch) -> None:
    objective = HybridObjective(bound_share=1.0)
    assert not objective.from_prior
    for found, expected in zip(gradients(objective, batch), gradients(ElboObjective(), batch), strict=True):
        torch.testing.assert_close(found, expected)


def test_none_of_the_bound_leaves_the_posterior_alone(batch: VectorBatch) -> None:
    of_q, of_p, of_w = gradients(HybridObjective(bound_share=0.0), batch)
    assert of_q is None or not of_q.any()
    assert of_p is not None
    assert of_p.abs().min() > 0
    assert of_w is not None
    assert of_w.any()


def test_a_share_is_the_mean_of_both(batch: VectorBatch) -> None:
    both = [gradients(HybridObjective(bound_share=share), batch) for share in (0.0, 1.0)]
    mixed = gradients(HybridObjective(bound_share=0.25), batch)
    for none, all_of_it, found in zip(*both, mixed, strict=True):
        parts = [torch.zeros_like(found) if part is None else part for part in (none, all_of_it)]
        torch.testing.assert_close(found, 0.75 * parts[0] + 0.25 * parts[1])


def test_the_likelihood_at_draws_of_the_prior_is_the_exact_expectation(
    model: LinearGaussian, batch: VectorBatch
) -> None:
    """E_p log p(x|z) = log N(x; b, s²I) − tr(WᵀW) / 2s²."""
    with torch.no_grad():
        found = model(batch, 4000, from_prior=True).log_likelihood_from_prior
        at_zero = model.log_likelihood(torch.zeros(1, len(batch), 3, dtype=torch.float64), batch)[0]
    expected = at_zero - model.w.detach().square().sum() / (2 * model.s**2)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - expected).abs() < 5 * error).all()


def test_no_bound_has_the_prior_s_draws_in_it(model: LinearGaussian, batch: VectorBatch) -> None:
    found = []
    for from_prior in (False, True):
        torch.manual_seed(0)
        found.append(model(batch, 5, from_prior=from_prior))
    assert found[0].log_likelihood_from_prior is None
    for name in ("elbo", "log_weight"):
        torch.testing.assert_close(getattr(found[0], name), getattr(found[1], name), atol=0, rtol=0)
    figures = HybridObjective()(found[1], 0).logged
    assert figures["elbo"] == pytest.approx(found[0].elbo.mean().item())
    assert figures["reconstruction_from_prior"] == pytest.approx(-found[1].log_likelihood_from_prior.mean().item())


def test_a_prior_whose_draws_have_no_gradient_is_refused(batch: VectorBatch) -> None:
    mixture = NormalMixturePrior(2, 3, 1e-3).double()

    class Mixed(LinearGaussian):
        def prior(self, batch: VectorBatch) -> Distribution:
            return mixture(len(batch))

    with pytest.raises(ValueError, match=r"objective\.kind: hybrid needs draws .* set objective\.kind=elbo"):
        Mixed()(batch, 1, from_prior=True)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_what_z_predicts_beside_x_counts_at_draws_of_q_and_of_p(
    model: LinearGaussian, batch: VectorBatch, share: float
) -> None:
    plain = model(batch, 3, from_prior=True)
    terms = replace(plain, auxiliary=plain.z.sum(-1), auxiliary_from_prior=plain.z.square().sum(-1))
    found = HybridObjective(bound_share=share, auxiliary_weight=0.5)(terms, 0)
    without = HybridObjective(bound_share=share)(plain, 0)
    mixed = share * terms.auxiliary.mean() + (1 - share) * terms.auxiliary_from_prior.mean()
    assert found.value.item() == pytest.approx((without.value - 0.5 * mixed).item())
    assert found.logged["elbo"] == without.logged["elbo"]


def test_the_kl_is_weighed_by_its_schedule_and_the_bound_is_logged_without(
    model: LinearGaussian, batch: VectorBatch
) -> None:
    terms = model(batch, 3, from_prior=True)
    rising = HybridObjective(bound_share=0.25, kl_weight=Linear(start=0.0, end=1.0, steps=10))
    assert rising.schedules == {"kl_weight": rising.kl_weight}
    plain = HybridObjective(bound_share=0.25)(terms, 0)
    for step, weight in ((0, 0.0), (4, 0.4), (10, 1.0), (99, 1.0)):
        found = rising(terms, step)
        assert found.value.item() == pytest.approx((plain.value - 0.25 * (1 - weight) * terms.kl.mean()).item())
        assert found.logged["kl_weight"] == pytest.approx(weight)
        assert found.logged["elbo"] == plain.logged["elbo"]


def test_draws_of_the_prior_converge_to_the_truth_from_above(model: LinearGaussian, batch: VectorBatch) -> None:
    truth = -model.marginal().log_prob(batch.x).mean().item()
    found = importance_weighted(FromPrior(model), [batch], CPU, 4000, seed=1)
    assert abs(found.estimate.value - truth) < 5 * found.sampling_error + found.bias + 1e-3
    rungs = [nll.mean().item() for nll in found.ladder.values()]
    assert rungs == sorted(rungs, reverse=True)
    by_posterior = importance_weighted(model, [batch], CPU, 100, seed=1)
    assert rungs[2] > by_posterior.ladder[50].mean() > truth - 5 * by_posterior.sampling_error


def test_a_weight_from_the_prior_is_the_likelihood_and_asks_no_posterior(
    model: LinearGaussian, batch: VectorBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "posterior", lambda batch: pytest.fail("the posterior was asked"))
    terms = FromPrior(model)(batch, 7)
    torch.testing.assert_close(terms.log_weight, model.log_likelihood(terms.z, batch))
    assert not terms.kl.any()


def test_a_model_stays_in_its_mode(model: LinearGaussian, batch: VectorBatch) -> None:
    for is_training in (True, False):
        model.train(is_training)
        encode_split(FromPrior(model), [batch], CPU)
        assert model.training is is_training


def test_with_the_prior_for_a_posterior_both_are_one_estimate(batch: VectorBatch) -> None:
    class Blind(LinearGaussian):
        def posterior(self, batch: VectorBatch) -> Distribution:
            return self.prior(batch)

    model = Blind()
    torch.manual_seed(0)
    own = model(batch, 20)
    torch.testing.assert_close(own.log_weight, model.log_likelihood(own.z, batch))
    assert not own.kl.any()
    found = [importance_weighted(each, [batch], CPU, 1000, seed=0) for each in (model, FromPrior(model))]
    error = max(one.sampling_error for one in found)
    assert found[0].estimate.value == pytest.approx(found[1].estimate.value, abs=6 * error)
