"""Two layers of latent variables as one distribution: density, moments, gradients, and the bounds that stand on it."""

import itertools
import math

import pytest
import torch
from oracle import VectorBatch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, Normal

from latent.bound import IwaeObjective, LatentModel
from latent.distributions import (
    Hierarchy,
    concatenate,
    detach,
    diagonal_normal,
    factors,
    kl_divergence,
    log_prob,
    pairwise_log_prob,
    rsample_and_log_prob,
    standard_normal,
    take,
)
from latent.measures import active_units, encode_split, importance_weighted, mutual_information, shuffled_gain

CPU = torch.device("cpu")


class Affine(nn.Module):
    """b = W a + c + s ε."""

    def __init__(self, first_size: int = 3, rest_size: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(first_size, rest_size, dtype=torch.float64)
        self.log_scale = nn.Parameter(torch.linspace(-0.5, 0.3, rest_size, dtype=torch.float64))

    def forward(self, a: Tensor) -> Distribution:
        assert a.dim() == 2  # rows
        mean = self.layer(a)
        return diagonal_normal(mean, self.log_scale.exp().expand_as(mean))


class Curved(Affine):
    """With a mean and a scale that are not linear."""

    def forward(self, a: Tensor) -> Distribution:
        mean = self.layer(a)
        return diagonal_normal(mean.tanh() + mean.square(), (self.log_scale + 0.5 * mean.sin()).exp())


def first(batch_size: int = 4, size: int = 3, seed: int = 0) -> Distribution:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(batch_size, size, generator=generator, dtype=torch.float64)
    scale = torch.rand(batch_size, size, generator=generator, dtype=torch.float64) + 0.3
    return diagonal_normal(mean.requires_grad_(), scale.requires_grad_())


def hierarchy(rest: type[Affine] = Curved, *, first_leads: bool = True, batch_size: int = 4) -> Hierarchy:
    torch.manual_seed(0)
    return Hierarchy(first(batch_size), rest(), 2, first_leads=first_leads)


@pytest.mark.parametrize("first_leads", [True, False])
def test_a_linear_hierarchy_is_the_joint_normal(first_leads: bool) -> None:
    q = hierarchy(Affine, first_leads=first_leads)
    weight, bias = q.rest.layer.weight.detach(), q.rest.layer.bias.detach()
    z = q.sample((7,))
    assert z.shape == (7, 4, 5)
    assert q.event_shape == (5,)
    for row in range(4):
        mean, variance = q.first.mean[row].detach(), q.first.variance[row].detach()
        across = variance.diag() @ weight.T
        lower = weight @ across + (2 * q.rest.log_scale.detach()).exp().diag()
        covariance = torch.cat([torch.cat([variance.diag(), across], 1), torch.cat([across.T, lower], 1)])
        joint = torch.cat([mean, weight @ mean + bias])
        order = torch.arange(5) if first_leads else torch.tensor([3, 4, 0, 1, 2])
        expected = MultivariateNormal(joint[order], covariance[order][:, order])
        torch.testing.assert_close(q.log_prob(z)[:, row], expected.log_prob(z[:, row]))
        torch.testing.assert_close(q.mean[row], expected.mean)  # exact, since the points have mirror images
        torch.testing.assert_close(q.variance[row], expected.variance, rtol=0.05, atol=0)


def test_draws_have_the_moments_and_the_density_that_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    q = hierarchy()
    z, log_q = rsample_and_log_prob(q, 100_000)
    error = z.std(0) / math.sqrt(len(z))
    assert ((z.mean(0) - q.mean).abs() < 4 * error + 0.03 * z.std(0)).all()
    monkeypatch.setattr("latent.distributions.hierarchy.NUM_POINTS", 4096)
    exact = hierarchy()
    assert ((z.mean(0) - exact.mean).abs() < 4 * error + 0.001).all()
    torch.testing.assert_close(exact.variance, z.var(0), rtol=0.04, atol=0)  # the fourth moment is large
    a, b = z[..., :3], z[..., 3:]
    mean = q.rest.layer(a)
    given = Normal(mean.tanh() + mean.square(), (q.rest.log_scale + 0.5 * mean.sin()).exp())
    torch.testing.assert_close(log_q, q.first.log_prob(a) + given.log_prob(b).sum(-1))
    assert factors(q) is None


def test_moments_are_a_function_of_the_distribution_alone() -> None:
    q, state = hierarchy(), torch.get_rng_state()
    mean = q.mean
    torch.testing.assert_close(torch.get_rng_state(), state, atol=0, rtol=0)
    torch.testing.assert_close(hierarchy().mean, mean, atol=0, rtol=0)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(take(q, rows).mean, mean[rows])
    torch.testing.assert_close(take(q, rows).stddev, q.stddev[rows])


def test_noise_of_the_first_part_makes_no_active_unit_of_the_rest() -> None:
    """b follows a, and a is noise: its mean is the same for each row. Means over 64 draws of each row's own are not."""
    rest = Affine()
    with torch.no_grad():
        rest.layer.weight.copy_(torch.eye(2, 3))
        q = Hierarchy(standard_normal(500, 3, rest.layer.weight), rest, 2)
        assert active_units(q.mean).count.value == 0
        own = torch.stack([q.given(q.first.sample()).mean for _ in range(64)]).mean(0)
    assert active_units(own).count.value == 2


def test_densities_of_all_pairs_equal_the_plain_loop() -> None:
    q, z = hierarchy(first_leads=False), torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(pairwise_log_prob(q, z), torch.stack([q.log_prob(row.expand(4, 5)) for row in z]))


def test_concatenate_and_take_are_inverse() -> None:
    rest = Curved()
    one, two = (Hierarchy(first(size, seed=size), rest, 2, first_leads=False) for size in (2, 3))
    joined, z = concatenate(one, two), torch.randn(5, 5, dtype=torch.float64)
    torch.testing.assert_close(joined.log_prob(z), torch.cat([one.log_prob(z[:2]), two.log_prob(z[2:])]))
    torch.testing.assert_close(take(joined, torch.tensor([2, 3, 4])).log_prob(z[2:]), two.log_prob(z[2:]))


def test_a_batch_of_none() -> None:
    q = hierarchy(batch_size=0)
    z, log_q = rsample_and_log_prob(q, 3)
    assert (z.shape, log_q.shape, q.mean.shape) == ((3, 0, 5), (3, 0), (0, 5))
    assert kl_divergence(q, hierarchy(batch_size=0), log_q).total.shape == (0,)


@pytest.mark.parametrize("first_leads", [True, False])
def test_a_draw_comes_with_its_density_by_one_call_of_the_second_part(first_leads: bool) -> None:
    q, calls = hierarchy(first_leads=first_leads), []
    q.rest.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(1)
    z, density = rsample_and_log_prob(q, 3)
    assert len(calls) == 1
    torch.manual_seed(1)
    apart = q.rsample((3,))
    assert torch.equal(z, apart)
    torch.testing.assert_close(density, log_prob(q, apart))
    parameters = [*q.rest.parameters(), q.first.base_dist.loc]
    together = torch.autograd.grad(density.sum() + z.sin().sum(), parameters)
    in_turn = torch.autograd.grad(log_prob(q, apart).sum() + apart.sin().sum(), parameters)
    torch.testing.assert_close(together, in_turn)


def test_detached_parameters_have_no_gradient_and_the_path_through_both_parts_stays() -> None:
    q = hierarchy()
    z = q.sample((2,)).requires_grad_()
    log_prob(q, z).sum().backward()
    assert q.rest.layer.weight.grad is not None
    whole, z.grad, q.first.base_dist.loc.grad = z.grad, None, None
    q.rest.zero_grad()
    log_prob(detach(q), z).sum().backward()
    torch.testing.assert_close(z.grad, whole)  # with ∂ log q(b|a) / ∂a
    assert q.first.base_dist.loc.grad is None
    assert all(parameter.grad is None for parameter in q.rest.parameters())
    of_first = torch.autograd.grad(q.first.log_prob(z[..., :3]).sum(), z)[0]
    assert (of_first[..., :3] - whole[..., :3]).abs().min() > 1e-4


def test_what_was_made_without_gradients_stays_so() -> None:
    with torch.no_grad():
        q = hierarchy()
    z = torch.randn(4, 5, dtype=torch.float64)
    for made in (q, take(q, torch.arange(4)), concatenate(q, q), detach(q)):
        assert made.is_frozen
    log_prob(take(q, torch.arange(4)), z).sum().backward()
    assert q.first.base_dist.loc.grad is not None
    assert all(parameter.grad is None for parameter in q.rest.parameters())
    assert not take(hierarchy(), torch.arange(4)).is_frozen


class TwoLayers(LatentModel[VectorBatch]):
    """z₂ ~ N(0, I), z₁ = d z₂ + s₁ ε, x = e z₁ + s ε, each dimension by itself: every distribution is known exactly.

    The posterior begins at the exact one.
    """

    latent_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.e, self.s = nn.Parameter(torch.tensor([1.2, 0.6], dtype=torch.float64)), 0.7
        d, s1 = torch.tensor([0.8, -1.1], dtype=torch.float64), torch.tensor([0.5, 0.9], dtype=torch.float64)
        self.down, self.up = Elementwise(d, s1), Elementwise(*inverted(d, s1.square(), torch.ones(2).double()))
        noise = torch.full((2,), self.s**2, dtype=torch.float64)
        self.encoder = Elementwise(*inverted(self.e.detach(), noise, d.square() + s1.square()))

    @property
    def marginal(self) -> Distribution:
        variance = self.down.slope.square() + (2 * self.down.log_scale).exp()
        scale = (self.e.square() * variance + self.s**2).sqrt().detach()
        return diagonal_normal(torch.zeros_like(scale), scale)

    def posterior(self, batch: VectorBatch) -> Distribution:
        return Hierarchy(self.encoder(batch.x), self.up, 2)

    def prior(self, batch: VectorBatch) -> Distribution:
        return Hierarchy(standard_normal(len(batch), 2, batch.x), self.down, 2, first_leads=False)

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        return Normal(self.e * z[..., :2], self.s).log_prob(batch.x).sum(-1)

    def draw(self, num_examples: int) -> VectorBatch:
        return VectorBatch(self.marginal.sample((num_examples,)), torch.arange(num_examples))

    def moved(self) -> "TwoLayers":
        """Away from the optimum."""
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                parameter += 0.1 * (-1) ** number
        return self


class Elementwise(nn.Module):
    """b = slope · a + scale ε."""

    def __init__(self, slope: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.slope, self.log_scale = nn.Parameter(slope.clone()), nn.Parameter(scale.log())

    def forward(self, a: Tensor) -> Distribution:
        return diagonal_normal(self.slope * a, self.log_scale.exp().expand_as(a))


def inverted(slope: Tensor, noise_variance: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and scale of a given b, where b = slope · a + noise and a has this variance around 0."""
    precision = 1 / variance + slope.square() / noise_variance
    return slope / noise_variance / precision, precision.rsqrt()


def gradients(model: TwoLayers, objective: IwaeObjective, num_repeats: int, rows: int) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {name: [] for name, _ in model.named_parameters()}
    batch = VectorBatch(torch.tensor([[1.0, -0.7]], dtype=torch.float64).expand(rows, -1), torch.arange(rows))
    for seed in range(num_repeats):
        torch.manual_seed(seed)
        model.zero_grad()
        objective(model(batch, objective.num_samples, path_gradient=objective.path_gradient), 0).value.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            found[name].append(parameter.grad)
    return {name: torch.stack(each) for name, each in found.items()}


def test_at_the_exact_posterior_every_weight_is_the_likelihood() -> None:
    """log p(x|z₁) + log p(z₁|z₂) + log p(z₂) − log q(z₁|x) − log q(z₂|z₁): a term lost or doubled would show."""
    model = TwoLayers()
    batch = model.draw(9)
    terms = model(batch, 6)
    torch.testing.assert_close(terms.log_weight, model.marginal.log_prob(batch.x).expand(6, -1))
    torch.testing.assert_close(terms.elbo, model.marginal.log_prob(batch.x))
    assert not terms.kl_is_closed_form
    assert terms.kl_per_dimension is None


def test_bounds_are_ordered_and_converge() -> None:
    model = TwoLayers().moved()
    batch = model.draw(400)
    exact = model.marginal.log_prob(batch.x).mean().item()
    elbo = model(batch, 500).elbo.mean().item()
    bounds = [-importance_weighted(model, [batch], CPU, k, seed=1).nll.mean().item() for k in (5, 50, 2000)]
    assert all(more > fewer + 1e-3 for fewer, more in itertools.pairwise([elbo, *bounds[:2]]))
    assert bounds[-1] == pytest.approx(exact, abs=0.01)


def test_the_doubly_reparameterised_gradient_is_the_standard_one_in_both_layers() -> None:
    """A hook on each layer, or q(z₂|z₁) held fixed as numbers, would be another gradient."""
    model, k = TwoLayers().moved(), 4
    standard = gradients(model, IwaeObjective(num_samples=k), 200, 400)
    dreg = gradients(model, IwaeObjective(num_samples=k, gradient="dreg"), 200, 400)
    for name in standard:
        difference = standard[name].mean(0) - dreg[name].mean(0)
        error = ((standard[name].var(0) + dreg[name].var(0)) / 200).sqrt()
        assert (difference.abs() < 4.5 * error + 1e-12).all(), name
        assert error.norm() < 0.1 * standard[name].mean(0).norm(), name
        if name.startswith(("encoder", "up")):
            assert dreg[name].var(0).sum() < 0.5 * standard[name].var(0).sum(), name


def test_at_the_exact_posterior_both_layers_have_no_doubly_reparameterised_gradient() -> None:
    found = gradients(TwoLayers(), IwaeObjective(num_samples=3, gradient="dreg"), 2, 5)
    for name, values in found.items():
        is_posterior = name.startswith(("encoder", "up"))
        assert (values.abs() < 1e-12).all() if is_posterior else (values.abs() > 1e-6).all(), name


def test_every_measure_takes_a_hierarchy() -> None:
    model = TwoLayers()
    batch = model.draw(1500)
    parts = [batch.take(rows) for rows in torch.randperm(1500).split(400)]
    split = encode_split(model, parts, CPU)
    assert not split.posterior.mean.requires_grad
    torch.testing.assert_close(split.posterior.mean[:, :2], batch.x * model.encoder.slope.detach())
    torch.testing.assert_close(split.posterior.mean[:, 2:], split.posterior.mean[:, :2] * model.up.slope.detach())
    found = mutual_information(split.posterior, split.z)
    assert not found.values.requires_grad
    aggregated = model.e.square() * (model.down.slope.square() + (2 * model.down.log_scale).exp()) / model.s**2 + 1
    exact = 0.5 * aggregated.log().sum().item()  # z₂ says no more of x than z₁, which it was drawn from
    assert found.estimate.value == pytest.approx(exact, abs=0.1)
    assert shuffled_gain(model, parts, split, CPU).estimate.low > 0.5
    adaptive = importance_weighted(model, parts, CPU, 200, half_width=0.05)
    torch.testing.assert_close(adaptive.nll, -model.marginal.log_prob(batch.x))
