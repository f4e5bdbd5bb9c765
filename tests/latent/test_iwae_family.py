"""MIWAE and CIWAE by value and gradient, and the noise of gradients as the draws of a bound grow."""

import math

import pytest
import torch
from free_gaussian import Free, assert_same_expectation, away_from_the_optimum, gradients, repeated
from oracle import LinearGaussian, VectorBatch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from latent.bound import ElboTerms, IwaeObjective
from latent.distributions import Kl, diagonal_normal, standard_normal

STANDARD, DREG = "standard", "dreg"


@pytest.mark.parametrize("gradient", [STANDARD, DREG])
def test_several_bounds_and_the_plain_one_are_mixed_by_value(gradient: str) -> None:
    model = away_from_the_optimum()
    terms = model(model.draw(15), 6, path_gradient=gradient == DREG)
    log_weight = terms.log_weight.detach()
    tight = torch.stack([block.exp().mean(0).log().mean() for block in log_weight.split(3)]).mean()
    for weight in (0.0, 0.3, 1.0):
        objective = IwaeObjective(num_samples=6, num_bounds=2, elbo_weight=weight, gradient=gradient)
        expected = -(weight * log_weight.mean() + (1 - weight) * tight)
        torch.testing.assert_close(objective(terms, 0).value.detach(), expected)
    single = IwaeObjective(num_samples=6, num_bounds=6, gradient=gradient)(terms, 0).value  # bounds of one draw
    torch.testing.assert_close(single.detach(), -log_weight.mean())


@pytest.mark.parametrize("gradient", [STANDARD, DREG])
def test_the_gradient_of_several_bounds_is_that_of_one_and_of_a_mixture_the_mixture_s(gradient: str) -> None:
    """MIWAE(3, 4) has the expected gradient of IWAE with 4 draws, CIWAE that of both its bounds by their weights."""
    model = away_from_the_optimum()
    one = gradients(model, IwaeObjective(num_samples=4, gradient=gradient), 120, 250)
    several = IwaeObjective(num_samples=12, num_bounds=3, gradient=gradient)
    assert_same_expectation(gradients(model, several, 120, 100), one)
    plain = gradients(model, IwaeObjective(num_samples=1), 120, 250)
    mixed = gradients(model, IwaeObjective(num_samples=4, elbo_weight=0.4, gradient=gradient), 120, 250)
    assert_same_expectation(mixed, {name: 0.4 * plain[name] + 0.6 * one[name] for name in one})


def test_the_doubly_reparameterised_mixture_keeps_draws_of_no_weight() -> None:
    """A draw whose weight has underflowed counts in the plain bound alone; where that has none it gives no NaN."""
    for weight in (0.0, 0.5):
        z = torch.zeros(2, 1, 1, dtype=torch.float64, requires_grad=True)
        log_weight = z.squeeze(-1) + torch.tensor([[0.0], [-2000.0]], dtype=torch.float64)
        zeros = torch.zeros_like(log_weight)
        kl = Kl(zeros.mean(0).detach(), None, closed_form=False)
        terms = ElboTerms.of(z, log_weight, zeros, zeros, kl)
        loss = IwaeObjective(num_samples=2, elbo_weight=weight, gradient=DREG)(terms, 0)
        (found,) = torch.autograd.grad(loss.value, z)
        torch.testing.assert_close(found.flatten(), -torch.tensor([1 - weight / 2, weight / 2], dtype=torch.float64))


def test_with_many_draws_the_decoder_s_gradient_is_that_of_the_exact_likelihood() -> None:
    model = away_from_the_optimum()
    batch = repeated(model, 1)
    (exact,) = torch.autograd.grad(-log_marginal(model, batch), model.w)
    found = gradients(model, IwaeObjective(num_samples=2000), 100, 20)["w"]
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - exact.flatten()).abs() <= 4.5 * error + 2e-3).all()  # the bias is O(1/k)
    assert error.norm() < 0.02 * exact.norm()


def log_marginal(model: Free, batch: VectorBatch) -> Tensor:
    """Exact, of the model whose prior is N(prior_mean, I), with a gradient."""
    covariance = model.w @ model.w.T + model.s**2 * torch.eye(len(model.w), dtype=torch.float64)
    mean = model.b + model.w @ model.prior_mean
    return MultivariateNormal(mean, covariance).log_prob(batch.x).mean()


def signal_to_noise(k: int, gradient: str, num_bounds: int = 1) -> tuple[float, float]:
    """|mean| / deviation of 20,000 estimates of the gradients by the posterior's mean and by the decoder's offset.

    The exact posterior's means are off by 0.1, and so is the decoder.
    """
    torch.manual_seed(0)
    model, num_rows, num_samples = LinearGaussian(), 20_000, k * num_bounds
    batch = repeated(model, num_rows)
    exact = model.posterior(batch)
    mean = (exact.mean + 0.1).detach().requires_grad_()
    model.b = nn.Parameter((model.b + 0.1).expand(num_rows, -1).clone())  # each estimate has its own
    q = diagonal_normal(mean.detach() if gradient == DREG else mean, exact.stddev.detach())
    z = mean + exact.stddev.detach() * torch.randn(num_samples, num_rows, model.latent_size, dtype=torch.float64)
    log_prior = standard_normal(num_rows, model.latent_size, batch.x).log_prob(z)
    kl = Kl(torch.zeros(num_rows, dtype=torch.float64), None, closed_form=False)
    terms = ElboTerms.of(z, model.log_likelihood(z, batch), log_prior, q.log_prob(z), kl)
    objective = IwaeObjective(num_samples=num_samples, num_bounds=num_bounds, gradient=gradient)
    found = torch.autograd.grad(objective(terms, 0).value, [mean, model.b])
    encoder, decoder = ((each.mean(0).abs() / each.std(0)).mean().item() for each in found)
    return encoder, decoder


def test_more_draws_drown_the_encoder_s_signal_unless_it_is_doubly_reparameterised() -> None:
    """Rainforth et al. 2018, theorem 1: O(√(m/k)) for the encoder, O(√(mk)) for the decoder. DReG's is O(√k)."""
    (encoder, decoder), (less, more) = signal_to_noise(4, STANDARD), signal_to_noise(36, STANDARD)
    assert less / encoder == pytest.approx(1 / 3, rel=0.2)
    assert more / decoder == pytest.approx(3, rel=0.2)
    several = signal_to_noise(4, STANDARD, num_bounds=4)
    assert several == pytest.approx((2 * encoder, 2 * decoder), rel=0.1)
    one, many = signal_to_noise(16, DREG), signal_to_noise(64, DREG)
    assert many[0] / one[0] == pytest.approx(2, rel=0.15)
    assert many[1] == pytest.approx(signal_to_noise(64, STANDARD)[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 10, "num_bounds": 4}, "multiple of num_bounds, 4; got 10"),
        ({"num_samples": 2, "num_bounds": 3}, "multiple"),
    ],
)
def test_draws_that_cannot_be_shared_among_the_bounds_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IwaeObjective(**settings)
