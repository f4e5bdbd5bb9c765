"""The importance-weighted objective by value and by gradient, and the schedules that it is trained with."""

import itertools
import math

import pytest
import torch
from free_gaussian import Free, assert_same_expectation, away_from_the_optimum, gradients
from oracle import LinearGaussian
from torch import Tensor

from latent.bound import ElboObjective, ElboTerms, IwaeObjective, Ladder, Staircase
from latent.distributions import Kl, diagonal_normal

STANDARD, DREG = "standard", "dreg"
ENCODER = ("encoder", "shift", "log_scale")


def terms_of(log_weight: Tensor) -> ElboTerms:
    """Terms with these log weights, the KL their Monte Carlo one."""
    zeros = torch.zeros_like(log_weight)
    kl = Kl(zeros.mean(0), None, closed_form=False)
    return ElboTerms.of(zeros.unsqueeze(-1), log_weight, zeros, zeros, kl)


@pytest.mark.parametrize("gradient", [STANDARD, DREG])
def test_value_and_logged_loss_are_the_mean_bound_and_not_the_surrogate(gradient: str) -> None:
    model, k = away_from_the_optimum(), 6
    terms = model(model.draw(15), k, path_gradient=gradient == DREG)
    loss = IwaeObjective(num_samples=k, gradient=gradient)(terms, 0)
    weights = terms.log_weight.detach().exp()
    bound = weights.mean(0).log()  # of each example: the mean over examples comes last
    torch.testing.assert_close(loss.value.detach(), -bound.mean())
    torch.testing.assert_close(loss.logged["loss"], -bound.mean())
    torch.testing.assert_close(loss.logged["elbo"], terms.elbo.mean().detach())
    normalised = weights / weights.sum(0)
    surrogate = -(normalised * terms.log_weight.detach()).sum(0)
    entropy = -(normalised * normalised.log()).sum(0)
    torch.testing.assert_close(surrogate, -(bound + math.log(k) - entropy))
    assert (surrogate - -bound).abs().min() > 1e-3
    assert not any(figure.requires_grad for figure in loss.logged.values() if isinstance(figure, Tensor))


@pytest.mark.parametrize("gradient", [STANDARD, DREG])
def test_one_draw_is_the_mean_log_weight(gradient: str) -> None:
    model = away_from_the_optimum()
    terms = model(model.draw(15), 1, path_gradient=gradient == DREG)
    loss = IwaeObjective(num_samples=1, gradient=gradient)(terms, 0)
    torch.testing.assert_close(loss.value, -terms.log_weight.mean())


def test_one_draw_has_the_gradient_of_the_elbo() -> None:
    model = away_from_the_optimum()
    elbo = gradients(model, ElboObjective(), 100, 300)
    assert_same_expectation(elbo, gradients(model, IwaeObjective(num_samples=1), 100, 300))
    assert_same_expectation(elbo, gradients(model, IwaeObjective(num_samples=1, gradient=DREG), 100, 300))


def test_one_draw_without_a_closed_form_is_the_elbo_itself() -> None:
    terms = terms_of(torch.randn(1, 8, dtype=torch.float64))
    torch.testing.assert_close(IwaeObjective(num_samples=1)(terms, 0).value, ElboObjective()(terms, 0).value)


def test_equal_weights_give_the_elbo() -> None:
    terms = terms_of(torch.randn(8, dtype=torch.float64).expand(5, -1))
    torch.testing.assert_close(IwaeObjective(num_samples=5)(terms, 0).value, ElboObjective()(terms, 0).value)
    exact = Free()
    batch = exact.draw(8)
    loss = IwaeObjective(num_samples=5)(exact(batch, 5), 0)
    torch.testing.assert_close(loss.value, -exact.marginal().log_prob(batch.x).mean())


def test_the_closed_form_kl_does_not_enter_the_weights() -> None:
    """A decoder that ignores z leaves weights p(z)/q(z|x), which differ between draws."""
    model = away_from_the_optimum()
    with torch.no_grad():
        model.w.zero_()
    terms = model(model.draw(4), 7)
    assert terms.kl_is_closed_form
    torch.testing.assert_close(terms.log_likelihood, terms.log_likelihood[:1].expand(7, -1))
    assert (terms.log_weight.std(0) > 0.1).all()


@pytest.mark.parametrize("gradient", [STANDARD, DREG])
def test_permuting_the_draws_changes_nothing(gradient: str) -> None:
    model, order = away_from_the_optimum(), torch.tensor([3, 0, 4, 1, 2])
    batch, found = model.draw(6), []
    q = model.posterior(batch)
    noise = torch.randn(5, 6, 3, dtype=torch.float64)
    for eps in (noise, noise[order]):
        z = q.mean + q.stddev * eps
        fixed = diagonal_normal(q.mean.detach(), q.stddev.detach()) if gradient == DREG else q
        terms = ElboTerms.of(
            z,
            model.log_likelihood(z, batch),
            model.prior(batch).log_prob(z),
            fixed.log_prob(z),
            Kl(torch.zeros(6, dtype=torch.float64), None, closed_form=False),
        )
        value = IwaeObjective(num_samples=5, gradient=gradient)(terms, 0).value
        found.append((value, *torch.autograd.grad(value, list(model.parameters()), retain_graph=True)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_the_bound_rises_with_the_number_of_draws_to_the_exact_likelihood() -> None:
    model = LinearGaussian(orthogonal=False, slack=1.3)
    batch, sizes = model.draw(400), (1, 5, 50, 2000)
    torch.manual_seed(0)
    log_weight = model(batch, sizes[-1]).log_weight.detach()
    values = [
        -torch.stack([IwaeObjective(num_samples=k)(terms_of(block), 0).value for block in log_weight.split(k)]).mean()
        for k in sizes
    ]
    assert all(more > fewer for fewer, more in itertools.pairwise(values))
    exact = model.marginal().log_prob(batch.x)
    error = log_weight.logsumexp(0) - math.log(sizes[-1]) - exact
    assert abs(error.mean()) < 4 * error.std() / math.sqrt(len(error)) + 1e-3
    assert error.std() / math.sqrt(len(error)) < 2e-3
    assert values[0] < exact.mean() - 0.2


def test_the_standard_gradient_is_that_of_the_bound() -> None:
    """Finite differences of L_k under common noise: the weights are not held fixed twice, nor forgotten."""
    model, k = away_from_the_optimum(), 4
    batch = model.draw(3)

    def bound() -> Tensor:
        torch.manual_seed(1)
        return IwaeObjective(num_samples=k)(model(batch, k), 0).value

    bound().backward()
    for parameter in model.parameters():
        start, direction, step = parameter.detach().clone(), torch.randn_like(parameter), 1e-5
        values = []
        for side in (step, -step):
            parameter.data.copy_(start + side * direction)
            values.append(bound().detach())
        parameter.data.copy_(start)
        difference = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close((parameter.grad * direction).sum(), difference, rtol=1e-6, atol=1e-8)


def test_the_doubly_reparameterised_gradient_is_the_same_with_less_noise() -> None:
    model, k = away_from_the_optimum(), 5
    standard = gradients(model, IwaeObjective(num_samples=k), 200, 250)
    dreg = gradients(model, IwaeObjective(num_samples=k, gradient=DREG), 200, 250)
    assert set(standard) == {*ENCODER, "w", "prior_mean"}
    assert_same_expectation(standard, dreg)
    for name in ENCODER:
        assert dreg[name].var(0).sum() < 0.5 * standard[name].var(0).sum(), name


@pytest.mark.parametrize("k", [1, 5])
def test_at_the_exact_posterior_the_doubly_reparameterised_gradient_of_the_encoder_is_zero(k: int) -> None:
    dreg = gradients(Free(), IwaeObjective(num_samples=k, gradient=DREG), 3, 4)
    standard = gradients(Free(), IwaeObjective(num_samples=k), 3, 4)
    for name in ENCODER:
        torch.testing.assert_close(dreg[name], torch.zeros_like(dreg[name]), atol=1e-12, rtol=0)
        assert standard[name].std(0).max() > 0.01  # that of the score, which has the mean 0
    torch.testing.assert_close(dreg["prior_mean"], standard["prior_mean"])  # once the weight, as always


def test_one_doubly_reparameterised_draw_is_sticking_the_landing() -> None:
    """Roeder et al. 2017: the ELBO's gradient without the score of q."""
    model = away_from_the_optimum()
    batch = model.draw(6)
    torch.manual_seed(2)
    IwaeObjective(num_samples=1, gradient=DREG)(model(batch, 1, path_gradient=True), 0).value.backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    torch.manual_seed(2)
    q = model.posterior(batch)
    z = q.rsample((1,))
    fixed = diagonal_normal(q.mean.detach(), q.stddev.detach())
    log_joint = model.log_likelihood(z, batch) + model.prior(batch).log_prob(z)
    expected = torch.autograd.grad(-(log_joint - fixed.log_prob(z)).mean(), list(model.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_ladder_has_the_stages_of_the_paper() -> None:
    """Eight stages of 3^i passes at 10^(−i/7): 121 passes end the fifth, 364 the sixth, 3,280 the last."""
    steps_per_pass = 10
    ladder = Ladder(steps_per_pass=steps_per_pass)
    passes = [ladder(step) for step in range(0, 3280 * steps_per_pass, steps_per_pass)]
    assert len(passes) == sum(3**i for i in range(8)) == 3280
    expected = [10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert passes == pytest.approx(expected)
    changes = [step for step in range(1, len(passes) * steps_per_pass) if ladder(step) != ladder(step - 1)]
    assert changes == [steps_per_pass * total for total in (1, 4, 13, 40, 121, 364, 1093)]
    assert ladder(10**9) == pytest.approx(0.1)


def test_a_ladder_of_other_stages() -> None:
    ladder = Ladder(steps_per_pass=3, stages=3, growth=1, end=0.25)
    assert [ladder(step) for step in (0, 2, 3, 5, 6, 8, 9)] == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25, 0.25])


def test_the_staircase_falls_to_its_end() -> None:
    staircase = Staircase(steps=100, factor=0.3, end=0.02)
    steps = (0, 99, 100, 199, 200, 300, 400, 10**9)
    assert [staircase(step) for step in steps] == pytest.approx([1, 1, 0.3, 0.3, 0.09, 0.027, 0.02, 0.02])
    assert Staircase(steps=1, factor=0.5)(10**6) == 0.0
