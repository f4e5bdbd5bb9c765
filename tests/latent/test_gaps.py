"""Inference gaps and annealed importance sampling, on the linear-Gaussian model, where all of them are known."""

import math
from dataclasses import fields

import pytest
import torch
from oracle import LinearGaussian, VectorBatch
from torch import Tensor

from latent.distributions import NormalHeadConfig, UniformSphere, free_parameters, log_prob, with_parameters
from latent.distributions.flow_heads import IafHeadConfig, PlanarHeadConfig, RadialHeadConfig, SylvesterHeadConfig
from latent.measures.annealing import Annealed, anneal, anneal_back
from latent.measures.gaps import Gaps, GapSettings, inference_gaps, optimal_posterior

SETTINGS = GapSettings(num_samples=2000, max_steps=200, num_chains=4, num_temperatures=30)


def simulate(model: LinearGaussian, z: Tensor, like: VectorBatch) -> VectorBatch:
    return VectorBatch(
        model.b.detach() + z @ model.w.detach().T + model.s * torch.randn(len(z), 5).double(), like.indices
    )


def measured(slack: float, *, orthogonal: bool = False) -> tuple[LinearGaussian, VectorBatch, Gaps]:
    model = LinearGaussian(orthogonal=orthogonal, slack=slack)
    batch = model.draw(20, seed=3)
    return model, batch, inference_gaps(model, batch, SETTINGS, lambda z, like: simulate(model, z, like))


def approximation_gap(model: LinearGaussian) -> float:
    """½ (Σ ln M_jj − ln det M): KL of the best diagonal normal to the exact posterior, of precision M."""
    m = model.precision.detach()
    return 0.5 * (m.diagonal().log().sum() - torch.logdet(m)).item()


def amortisation_gap(slack: float) -> float:
    """Of three dimensions whose scales are `slack` times the best."""
    return 3 * (0.5 * (slack**2 - 1) - math.log(slack))


@pytest.mark.parametrize("slack", [1.0, 1.6])
def test_both_gaps_are_those_of_the_closed_form(slack: float) -> None:
    model, batch, found = measured(slack)
    error = 0.02  # 3 standard errors of 20 means of 2,000 draws, at a standard deviation of about 1
    assert approximation_gap(model) > 10 * error
    assert found.approximation.mean().item() == pytest.approx(approximation_gap(model), abs=error)
    assert found.amortisation.mean().item() == pytest.approx(amortisation_gap(slack), abs=error)
    exact = model.marginal().log_prob(batch.x).mean().item()
    assert found.log_marginal.mean().item() == pytest.approx(exact, abs=error)
    whole = found.log_marginal - found.amortised
    torch.testing.assert_close(whole, found.approximation + found.amortisation)


def test_where_the_family_holds_the_exact_posterior_nothing_is_left_to_it() -> None:
    _, _, found = measured(1.0, orthogonal=True)
    assert found.approximation.mean().item() == pytest.approx(0.0, abs=0.02)
    assert found.amortisation.mean().item() == pytest.approx(0.0, abs=0.02)


def test_the_best_posterior_is_found_from_a_bad_encoder() -> None:
    model = LinearGaussian(orthogonal=False, slack=6.0)
    batch = model.draw(8, seed=1)
    best = optimal_posterior(model, batch, model.posterior(batch), GapSettings(num_samples=500, max_steps=400))
    right = LinearGaussian(orthogonal=False).posterior(batch)
    torch.testing.assert_close(best.mean, right.mean.detach(), atol=0.05, rtol=0)
    torch.testing.assert_close(best.stddev, right.stddev.detach(), atol=0, rtol=0.08)


def test_annealing_agrees_with_the_marginal_and_the_sandwich_holds_it() -> None:
    torch.manual_seed(0)
    model = LinearGaussian(orthogonal=False)
    z = model.prior(model.draw(40)).sample()
    batch = simulate(model, z, model.draw(40))
    forward, steps = anneal(model, batch, num_chains=8, num_temperatures=100)
    backward = anneal_back(model, batch, z.unsqueeze(0), steps)
    exact = model.marginal().log_prob(batch.x)
    errors = [3 * (each.log_marginal - exact).std().item() / math.sqrt(40) for each in (forward, backward)]
    assert max(errors) < 0.4
    assert exact.mean().item() == pytest.approx(forward.log_marginal.mean().item(), abs=errors[0] + 0.05)
    assert forward.log_marginal.mean() - errors[0] <= exact.mean() <= backward.log_marginal.mean() + errors[1]
    assert ((forward.acceptance > 0.5) & (forward.acceptance < 0.9)).all()
    assert not forward.has_collapsed.any()


def test_few_temperatures_widen_the_sandwich_on_both_sides() -> None:
    torch.manual_seed(0)
    model = LinearGaussian(orthogonal=False)
    z = model.prior(model.draw(60)).sample()
    batch = simulate(model, z, model.draw(60))
    exact = model.marginal().log_prob(batch.x).mean()
    forward, steps = anneal(model, batch, num_chains=1, num_temperatures=3)
    backward = anneal_back(model, batch, z.unsqueeze(0), steps)
    assert forward.log_marginal.mean() < exact - 0.1
    assert backward.log_marginal.mean() > exact + 0.1


def test_chains_that_do_not_move_are_said_to_have_collapsed() -> None:
    found = Annealed(torch.zeros(2), torch.tensor([0.1, 0.6]))
    assert found.has_collapsed.tolist() == [True, False]


@pytest.mark.parametrize(("chains", "temperatures"), [(0, 5), (5, 0)])
def test_no_chains_and_no_temperatures_are_refused(chains: int, temperatures: int) -> None:
    model = LinearGaussian()
    with pytest.raises(ValueError, match="a chain and a temperature at least"):
        anneal(model, model.draw(3), num_chains=chains, num_temperatures=temperatures)


def test_the_gaps_are_a_function_of_the_seed_and_join() -> None:
    model = LinearGaussian()
    batch, few = model.draw(4), GapSettings(num_samples=50, max_steps=100, num_chains=2, num_temperatures=4)
    first, second = inference_gaps(model, batch, few), inference_gaps(model, batch, few)
    for each in fields(Gaps):
        torch.testing.assert_close(
            getattr(first, each.name), getattr(second, each.name), equal_nan=True, rtol=0, atol=0
        )
    assert len(first.joined(second).optimal) == 8
    assert first.simulated_upper.isnan().all()


@pytest.mark.parametrize("kind", ["normal", "planar", "radial", "sylvester", "iaf"])
def test_free_parameters_are_all_that_a_member_of_the_family_is(kind: str) -> None:
    torch.manual_seed(0)
    heads = {"normal": NormalHeadConfig, "planar": PlanarHeadConfig, "radial": RadialHeadConfig}
    heads |= {"sylvester": SylvesterHeadConfig, "iaf": IafHeadConfig}
    sizes = {"num_columns": 2} if kind == "sylvester" else {}
    q = heads[kind](**sizes).build(5, 3).double()(torch.randn(4, 5).double())
    parameters = free_parameters(q)
    again, z = with_parameters(q, parameters), q.sample(torch.Size([6]))
    torch.testing.assert_close(log_prob(again, z), log_prob(q, z))
    moved = with_parameters(q, tuple(each + 0.1 * torch.randn_like(each) for each in parameters))
    assert (log_prob(moved, z) != log_prob(q, z)).all()
    assert log_prob(moved, z).isfinite().all()


def test_a_family_without_free_parameters_is_named() -> None:
    with pytest.raises(ValueError, match="no rule to free UniformSphere"):
        free_parameters(UniformSphere(2, 3, torch.zeros(3)))


class Held(LinearGaussian):
    @property
    def posterior_is_free(self) -> bool:
        return False


def test_a_posterior_held_to_a_rule_has_no_best_of_its_family() -> None:
    with pytest.raises(ValueError, match=r"best q of its family, and Held has .* held to a rule of its head"):
        inference_gaps(Held(), LinearGaussian().draw(3), SETTINGS)
