"""Natural-gradient steps: against the closed form, the Fisher matrix by autograd, and where they must be held."""

from collections.abc import Callable

import pytest
import torch
from oracle import LinearGaussian, VectorBatch
from torch import Tensor
from torch.distributions import Distribution

from latent.distributions.flow_heads import PlanarHeadConfig
from latent.measures import Refinement
from latent.measures.ascent import NaturalGradient, climb
from latent.measures.refinement import refine_split

Bound = Callable[[Tensor, Tensor], Tensor]  # of μ and ln σ, summed over the examples


def stepped(bound: Bound, start: tuple[Tensor, Tensor], rate: float, num_steps: int = 1) -> tuple[Tensor, Tensor]:
    mean, log_scale = (each.clone().requires_grad_() for each in start)
    optimizer = NaturalGradient((mean, log_scale), lr=rate)
    for _ in range(num_steps):
        optimizer.zero_grad()
        (-bound(mean, log_scale)).backward()
        optimizer.step()
    return mean.detach(), log_scale.detach()


def exact_bound(model: LinearGaussian, batch: VectorBatch) -> Bound:
    """Without a draw: the likelihood is that at the mean, less what the variance costs; the KL is closed."""
    costs = 0.5 * model.w.detach().square().sum(0) / model.s**2

    def bound(mean: Tensor, log_scale: Tensor) -> Tensor:
        variance = (2 * log_scale).exp()
        likelihood = model.log_likelihood(mean.unsqueeze(0), batch)[0] - variance @ costs
        return (likelihood - 0.5 * (mean.square() + variance - 2 * log_scale - 1).sum(-1)).sum()

    return bound


def start_of(batch: VectorBatch) -> tuple[Tensor, Tensor]:
    zeros = torch.zeros(len(batch), 3, dtype=torch.float64)
    return zeros, zeros


def exact_mean(model: LinearGaussian, batch: VectorBatch) -> Tensor:
    return ((batch.x - model.b) @ model.w @ torch.linalg.inv(model.precision) / model.s**2).detach()


def test_one_step_of_rate_1_is_the_exact_posterior_where_that_is_diagonal() -> None:
    model = LinearGaussian()
    batch = model.draw(6)
    mean, log_scale = stepped(exact_bound(model, batch), start_of(batch), 1.0)
    torch.testing.assert_close(mean, exact_mean(model, batch))
    torch.testing.assert_close((-2 * log_scale).exp(), model.precision.diagonal().detach().expand(6, 3))


def test_elsewhere_it_is_the_best_scale_and_each_mean_s_own_given_the_others_until_damped_steps_settle() -> None:
    model = LinearGaussian(orthogonal=False)
    batch, m = model.draw(6), model.precision.detach()
    bound, right = exact_bound(model, batch), exact_mean(model, batch)
    mean, log_scale = stepped(bound, start_of(batch), 1.0)
    torch.testing.assert_close((-2 * log_scale).exp(), m.diagonal().expand(6, 3))
    torch.testing.assert_close(mean, right @ m / m.diagonal())
    assert (mean - right).abs().mean() > 0.1
    mean, log_scale = stepped(bound, start_of(batch), 0.5, num_steps=200)
    torch.testing.assert_close(mean, right)
    torch.testing.assert_close((-2 * log_scale).exp(), m.diagonal().expand(6, 3))


def test_a_step_is_the_fisher_matrix_s_inverse_times_the_gradient_by_natural_parameters() -> None:
    """By autograd, of a bound that is not conjugate: E[−z⁴ + z] of a normal, and its entropy."""

    def bound(mean: Tensor, log_scale: Tensor) -> Tensor:
        v = (2 * log_scale).exp()
        return -(mean**4 + 6 * mean**2 * v + 3 * v**2).sum() + mean.sum() + log_scale.sum()

    def log_normaliser(natural: Tensor) -> Tensor:
        return -(natural[0] ** 2) / (4 * natural[1]) - 0.5 * (-2 * natural[1]).log()

    def of_natural(natural: Tensor) -> Tensor:
        v = -0.5 / natural[1]
        return bound(natural[0] * v, 0.5 * v.log())

    mean, variance, rate = 0.4, 0.3, 0.05
    natural = torch.tensor([mean / variance, -0.5 / variance], dtype=torch.float64)
    fisher = torch.autograd.functional.hessian(log_normaliser, natural)
    slope = torch.autograd.functional.jacobian(of_natural, natural)
    moved = natural + rate * torch.linalg.solve(fisher, slope)
    start = torch.tensor([[mean]]).double(), 0.5 * torch.tensor([[variance]]).double().log()
    found, log_scale = stepped(bound, start, rate)
    precision = (-2 * log_scale).exp()
    torch.testing.assert_close(torch.stack([found * precision, -0.5 * precision]).flatten(), moved)
    assert (moved - natural).abs().min() > 0.005


def test_with_many_draws_one_step_is_near_the_exact_one() -> None:
    torch.manual_seed(0)
    model = LinearGaussian()
    batch = model.draw(4)
    parameters = [each.clone().requires_grad_() for each in start_of(batch)]
    q, optimizer = model.prior(batch), NaturalGradient(parameters, lr=1.0)
    climb(model, batch, q, parameters, optimizer, num_steps=1, num_draws=100_000)
    mean, log_scale = (each.detach() for each in parameters)
    torch.testing.assert_close(mean, exact_mean(model, batch), rtol=0, atol=0.03)  # three standard errors
    right = -0.5 * model.precision.diagonal().detach().log().expand(4, 3)
    torch.testing.assert_close(log_scale, right, rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("slope", "factor"), [(-5.0, 6.0), (0.0, 1.0), (0.5, 0.625), (1.0, 0.5), (1.5, 0.625), (50.0, 1201.0)]
)
def test_a_precision_stays_positive_and_a_variance_at_most_doubles(slope: float, factor: float) -> None:
    """Where L grows with ln σ by 1 or more the plain step of rate 1 would leave no precision, or one below 0."""
    start = torch.zeros(2, 1).double(), torch.zeros(2, 1).double()
    _, log_scale = stepped(lambda mean, log_scale: (slope * log_scale + 0 * mean).sum(), start, 1.0)
    torch.testing.assert_close((-2 * log_scale).exp(), torch.full((2, 1), factor).double())


def test_from_a_narrow_start_the_variance_grows_to_its_optimum() -> None:
    model = LinearGaussian()
    batch = model.draw(2)
    narrow = torch.full((2, 3), -4.0).double()
    _, log_scale = stepped(exact_bound(model, batch), (torch.zeros_like(narrow), narrow), 1.0, num_steps=40)
    torch.testing.assert_close((-2 * log_scale).exp(), model.precision.diagonal().detach().expand(2, 3))


def test_a_far_start_does_not_run_away_by_the_noise_of_few_draws() -> None:
    """Of a posterior 25 times as narrow as the prior, which 8 draws a step are poor estimates of."""
    model = LinearGaussian(orthogonal=False)
    model.s = 0.2
    batch = model.draw(30, seed=3)
    found = refine_split(model, [batch], torch.device("cpu"), Refinement(steps=300, start="prior", by="natural"))
    right = model.posterior(batch)
    away = (found.posteriors.mean - right.mean) / right.stddev
    assert away.abs().mean() < 1  # the start is about 10 away; with variances held at twice the last 1e8


class OfFlow(LinearGaussian):
    def __init__(self) -> None:
        super().__init__()
        self.head = PlanarHeadConfig(length=1).build(5, 3).double()

    def posterior(self, batch: VectorBatch) -> Distribution:
        return self.head(batch.x)


def test_another_family_is_refused_and_adam_takes_it() -> None:
    model, batches = OfFlow(), [LinearGaussian().draw(3)]
    with pytest.raises(ValueError, match="--refine-by natural: q must be a diagonal normal, and is a FlowDistribution"):
        refine_split(model, batches, torch.device("cpu"), Refinement(steps=1, by="natural"))
    assert refine_split(model, batches, torch.device("cpu"), Refinement(steps=1))
