"""The von Mises–Fisher distribution against SciPy's, quadrature, exact moments and an exact model on the sphere."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from oracle import VectorBatch
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import LatentModel
from latent.distributions import (
    UniformSphere,
    VonMisesFisher,
    concatenate,
    detach,
    device_of,
    factors,
    kl_divergence,
    pairwise_log_prob,
    rsample_and_log_prob,
    take,
)
from latent.distributions.bessel import log_scaled_bessel
from latent.distributions.von_mises_fisher import _cosine_slope
from latent.measures import active_units, encode_split, importance_weighted, marginal_kl, mutual_information

CPU = torch.device("cpu")
ORDERS = [0, 0.5, 1, 2.5, 15, 24, 39.5, 41, 64, 127.5, 256]
CASES = [(2, 0.01), (2, 3.0), (2, 1e4), (3, 10.0), (4, 0.5), (5, 100.0), (32, 80.0), (50, 35.0), (512, 300.0)]


def vmf(latent_size: int, kappa: float, batch_size: int = 1, dtype: torch.dtype = torch.float64) -> VonMisesFisher:
    generator = torch.Generator().manual_seed(latent_size)
    loc = torch.randn(batch_size, latent_size, generator=generator, dtype=torch.float64)
    concentration = torch.full((batch_size,), kappa, dtype=dtype)
    return VonMisesFisher(F.normalize(loc, dim=-1).to(dtype), concentration.requires_grad_())


@pytest.mark.parametrize("order", ORDERS)
def test_the_bessel_function_and_its_derivative_are_scipy_s(order: float) -> None:
    x = torch.logspace(-2, 4, 1501, dtype=torch.float64).requires_grad_()
    found = log_scaled_bessel(order, x)
    slope = torch.autograd.grad(found.sum(), x)[0]
    at = x.detach().numpy()
    here, following = scipy.special.ive(order, at), scipy.special.ive(order + 1, at)
    is_known = following > 1e-290  # below it SciPy's underflows
    assert is_known.sum() > 500
    np.testing.assert_allclose(found.detach()[is_known], np.log(here[is_known]), rtol=1e-12, atol=1e-11)
    expected = following[is_known] / here[is_known] + order / at[is_known] - 1
    np.testing.assert_allclose(slope[is_known], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", [1, 30, 100.5, 256])
def test_the_bessel_functions_obey_their_recurrence_where_scipy_s_are_zero(order: float) -> None:
    """I_{ν−1} − I_{ν+1} = (2ν/x) I_ν."""
    x = torch.logspace(-2, 4, 601, dtype=torch.float64)
    before, here, after = (log_scaled_bessel(order + step, x) for step in (-1, 0, 1))
    ratio = (before - here).exp() - (after - here).exp()
    torch.testing.assert_close(ratio, 2 * order / x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", [0, 24, 60])
def test_the_bessel_function_s_gradients_are_finite_differences(order: float) -> None:
    x = torch.tensor([0.01, 3.0, 39.0, 41.0, 300.0], dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda at: log_scaled_bessel(order, at), x)
    assert torch.autograd.gradgradcheck(lambda at: log_scaled_bessel(order, at), x)


@pytest.mark.parametrize(("latent_size", "kappa"), CASES)
def test_the_density_integrates_to_one(latent_size: int, kappa: float) -> None:
    q = vmf(latent_size, kappa)
    across = F.normalize(torch.eye(latent_size, dtype=torch.float64)[0] - q.loc[0, 0] * q.loc[0], dim=0)
    log_circle = math.log(2) + (latent_size - 1) / 2 * math.log(math.pi) - math.lgamma((latent_size - 1) / 2)

    def density(angle: float) -> float:
        """Of the angle from μ: the density at a point there, times the surface of all points there."""
        z = math.cos(angle) * q.loc + math.sin(angle) * across
        log_surface = log_circle + (latent_size - 2) * math.log(math.sin(angle))
        return math.exp(q.log_prob(z).item() + log_surface)

    mode = math.acos(q.mean_length.item())
    width = 8 / math.sqrt(max(kappa, latent_size))
    ends = max(0.0, mode - width), min(math.pi, mode + width)
    total = scipy.integrate.quad(density, *ends, epsabs=1e-10, limit=200)[0]
    assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("latent_size", "kappa"), CASES[1:])
def test_density_and_entropy_are_scipy_s(latent_size: int, kappa: float) -> None:
    q = vmf(latent_size, kappa)
    other = scipy.stats.vonmises_fisher(q.loc[0].numpy(), kappa)
    z = F.normalize(torch.randn(6, latent_size, dtype=torch.float64), dim=-1)
    np.testing.assert_allclose(q.log_prob(z.unsqueeze(1))[:, 0].detach(), other.logpdf(z.numpy()), rtol=1e-9)
    assert q.entropy().item() == pytest.approx(other.entropy(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("latent_size", "kappa", "nats"),
    [(32, 13, 2.17), (32, 25, 5.76), (32, 80, 17.86), (32, 200, 30.37), (50, 35, 7.74), (50, 80, 19.5)],
)
def test_the_kl_is_the_published_one(latent_size: int, kappa: float, nats: float) -> None:
    q = vmf(latent_size, kappa)
    found = kl_divergence(q, UniformSphere(1, latent_size, q.loc), torch.zeros(1, 1, dtype=torch.float64))
    assert found.closed_form
    assert found.per_dimension is None
    assert found.total.item() == pytest.approx(nats, abs=0.06)


@pytest.mark.parametrize(("latent_size", "kappa"), CASES)
def test_draws_lie_on_the_sphere_with_the_exact_moments(latent_size: int, kappa: float) -> None:
    """Within 4.5 standard errors: by chance once in 7,000 tests, and the seed is fixed."""
    torch.manual_seed(1)
    q, num_samples = vmf(latent_size, kappa), 20_000
    z = q.rsample((num_samples,))[:, 0].detach()
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(num_samples, dtype=torch.float64))
    standard_error = z.std(0) / math.sqrt(num_samples)
    assert ((z.mean(0) - q.mean[0]) / standard_error).abs().max() < 4.5
    cosine = z @ q.loc[0]
    assert abs((cosine.mean() - q.mean_length) / cosine.std() * math.sqrt(num_samples)) < 4.5
    squares = (z - q.mean[0]).square()
    assert ((squares.mean(0) - q.variance[0]) / squares.std(0) * math.sqrt(num_samples)).abs().max() < 4.5


def test_draws_on_the_circle_have_the_distribution_of_scipy_s() -> None:
    torch.manual_seed(0)
    q = vmf(2, 3.0)
    z = q.rsample((20_000,))[:, 0].detach()
    angle = torch.atan2(z[:, 1], z[:, 0]) - torch.atan2(q.loc[0, 1], q.loc[0, 0])
    wrapped = torch.atan2(angle.sin(), angle.cos())
    assert scipy.stats.kstest(wrapped.numpy(), scipy.stats.vonmises(3.0).cdf).pvalue > 1e-3


def test_in_three_dimensions_kappa_moves_a_draw_as_its_inverse_distribution_function_says() -> None:
    """F(w) = u has the solution w = 1 + ln(u + (1 − u) exp(−2κ)) / κ."""
    u = torch.linspace(0.001, 0.999, 200, dtype=torch.float64)
    for value in (0.05, 1.0, 10.0, 500.0):
        kappa = torch.full_like(u, value).requires_grad_()
        w = 1 + (u + (1 - u) * (-2 * kappa).exp()).log() / kappa
        expected = torch.autograd.grad(w.sum(), kappa)[0]
        length = 1 / torch.tanh(kappa) - 1 / kappa
        found = _cosine_slope((1 - w).detach(), kappa.detach(), length.detach(), 3)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("latent_size", "kappa"), [(2, 2.0), (3, 10.0), (6, 4.0), (32, 80.0)])
def test_gradients_of_an_expectation_are_those_of_its_closed_form(latent_size: int, kappa: float) -> None:
    """E[(aᵀz)²] with E[zzᵀ] = (A/κ) I + (1 − dA/κ) μμᵀ, by μ's and κ's own parameters."""
    torch.manual_seed(3)
    raw = torch.randn(latent_size, dtype=torch.float64).requires_grad_()
    concentration = torch.tensor(kappa, dtype=torch.float64).requires_grad_()
    a = torch.randn(latent_size, dtype=torch.float64)

    def made() -> VonMisesFisher:
        return VonMisesFisher(F.normalize(raw, dim=-1), concentration)

    q = made()
    spread = q.mean_length / concentration
    exact = spread * a.square().sum() + (1 - latent_size * spread) * (q.loc @ a).square()
    expected = torch.autograd.grad(exact, (raw, concentration))
    estimates = [
        torch.autograd.grad((made().rsample((1_000,)) @ a).square().mean(), (raw, concentration)) for _ in range(40)
    ]
    for of_exact, *found in zip(expected, *estimates, strict=True):
        parts = torch.stack(found)
        error = parts.std(0) / math.sqrt(len(parts))
        assert ((parts.mean(0) - of_exact).abs() < 4.5 * error).all()
        assert (4.5 * error < 0.5 * of_exact.abs().max()).all()  # the test can see a wrong one


@pytest.mark.parametrize("path_gradient", [False, True])
def test_the_sampled_kl_and_its_gradient_agree_with_the_closed_form(path_gradient: bool) -> None:
    torch.manual_seed(0)
    q = vmf(8, 12.0, batch_size=2)
    p = UniformSphere(2, 8, q.loc)
    z, log_q = rsample_and_log_prob(q, 40_000, path_gradient=path_gradient)
    exact = torch.distributions.kl_divergence(q, p)
    sampled = (log_q - p.log_prob(z)).mean(0)
    torch.testing.assert_close(sampled, exact, atol=0.03, rtol=0)
    of_exact = torch.autograd.grad(exact.sum(), q.concentration, retain_graph=True)[0]
    of_sampled = torch.autograd.grad(sampled.sum(), q.concentration)[0]
    torch.testing.assert_close(of_sampled, of_exact, atol=0.005, rtol=0)
    assert of_exact.min() > 0.05


def test_gradients_of_the_density_are_finite_differences() -> None:
    z = F.normalize(torch.randn(3, 4, dtype=torch.float64), dim=-1).requires_grad_()
    loc = F.normalize(torch.randn(3, 4, dtype=torch.float64), dim=-1).requires_grad_()
    kappa = torch.tensor([0.5, 7.0, 90.0], dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, k, at: VonMisesFisher(m, k).log_prob(at), (loc, kappa, z))


@pytest.mark.parametrize("kappa", [1e-2, 1.0, 1e4])
def test_float32_stays_finite_and_on_the_sphere(kappa: float) -> None:
    torch.manual_seed(0)
    q = vmf(2, kappa, batch_size=50, dtype=torch.float32)
    z, log_q = rsample_and_log_prob(q, 100)
    assert z.dtype == log_q.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(100, 50), atol=1e-6, rtol=0)
    (log_q.sum() + z.sum() + q.variance.sum()).backward()
    assert torch.isfinite(q.concentration.grad).all()


def test_draws_are_a_function_of_the_seed() -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return vmf(5, 9.0, batch_size=3).rsample((4,))

    torch.testing.assert_close(drawn(7), drawn(7), atol=0, rtol=0)
    assert (drawn(7) != drawn(8)).all()
    assert drawn(0).shape == (4, 3, 5)


def test_the_rules_of_the_family() -> None:
    q, other = vmf(4, 6.0, batch_size=3), vmf(4, 2.0, batch_size=2)
    joined = concatenate(q, other)
    assert joined.batch_shape == (5,)
    picked = take(joined, torch.tensor([4, 0]))
    torch.testing.assert_close(picked.mean, torch.stack([other.mean[1], q.mean[0]]))
    torch.testing.assert_close(picked.concentration, torch.tensor([2.0, 6.0], dtype=torch.float64))
    assert factors(q) is None
    assert device_of(q) == CPU
    assert not detach(q).rsample().requires_grad
    z = F.normalize(torch.randn(6, 4, dtype=torch.float64), dim=-1)
    expected = torch.stack([joined.log_prob(row.expand(5, 4)) for row in z])
    torch.testing.assert_close(pairwise_log_prob(joined, z), expected)


def test_a_batch_of_none_and_a_sphere_of_no_dimension() -> None:
    q = vmf(4, 6.0, batch_size=0)
    z, log_q = rsample_and_log_prob(q, 2)
    assert z.shape == (2, 0, 4)
    assert log_q.shape == (2, 0)
    with pytest.raises(ValueError, match=r"at least 2 dimensions \(got 1\)"):
        VonMisesFisher(torch.ones(1, 1), torch.ones(1))


class OnTheSphere(LatentModel[VectorBatch]):
    """x = c z + s ε with z uniform on the sphere: p(z|x) is von Mises–Fisher of direction x and κ = c |x| / s²."""

    def __init__(self, slack: float = 1.0, latent_size: int = 3) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.c, self.s, self.slack = 1.5, 0.6, slack

    def concentration(self, batch: VectorBatch) -> Tensor:
        return self.c * batch.x.norm(dim=-1) / self.s**2

    def posterior(self, batch: VectorBatch) -> Distribution:
        return VonMisesFisher(F.normalize(batch.x, dim=-1), self.slack * self.concentration(batch))

    def prior(self, batch: VectorBatch) -> Distribution:
        return UniformSphere(len(batch), self.latent_size, batch.x)

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        residual = (batch.x - self.c * z) / self.s
        return (-0.5 * residual.square() - math.log(self.s) - 0.5 * math.log(2 * math.pi)).sum(-1)

    def log_prob(self, batch: VectorBatch) -> Tensor:
        """Exact log p(x) = log p(x|z) + log p(z) − log p(z|x) at any z: here without the terms that z is in."""
        posterior = VonMisesFisher(F.normalize(batch.x, dim=-1), self.concentration(batch))
        squares = -0.5 * (batch.x.square().sum(-1) + self.c**2) / self.s**2
        log_scale = self.latent_size * (math.log(self.s) + 0.5 * math.log(2 * math.pi))
        return squares - log_scale - self.prior(batch).log_surface - posterior.log_normaliser

    def draw(self, num_examples: int) -> VectorBatch:
        torch.manual_seed(5)
        z = UniformSphere(num_examples, self.latent_size, torch.zeros((), dtype=torch.float64)).sample()
        return VectorBatch(self.c * z + self.s * torch.randn_like(z), torch.arange(num_examples))


def test_the_exact_posterior_on_the_sphere_makes_the_bound_tight() -> None:
    model = OnTheSphere()
    batch = model.draw(50)
    terms = model(batch, 4)
    torch.testing.assert_close(terms.log_weight, model.log_prob(batch).expand(4, -1))
    assert terms.kl_is_closed_form


def test_importance_weights_on_the_sphere_converge_from_below() -> None:
    model = OnTheSphere(slack=0.3)
    batch = model.draw(200)
    exact = -model.log_prob(batch).mean().item()
    found = importance_weighted(model, [batch], CPU, 500)
    assert found.nll.mean().item() == pytest.approx(exact, abs=0.01)
    negative_elbo = -encode_split(model, [batch], CPU).elbo.mean().item()
    assert negative_elbo > exact + 0.05


def test_information_on_the_sphere_is_the_kl_where_directions_are_uniform() -> None:
    """Posteriors of one κ around uniform directions are, all together, the uniform prior."""
    torch.manual_seed(0)
    loc = UniformSphere(2_000, 3, torch.zeros((), dtype=torch.float64)).sample()
    q = VonMisesFisher(loc, torch.full((2_000,), 20.0, dtype=torch.float64))
    found = mutual_information(q, q.sample())
    kl = torch.distributions.kl_divergence(q, UniformSphere(2_000, 3, loc))[0].item()
    assert found.estimate.low < kl < found.estimate.high
    assert kl == pytest.approx(math.log(20.0) - 1 + math.log(2), abs=1e-6)  # κ coth κ − 1 + ln(κ / sinh κ) at a large κ
    assert active_units(q.mean).count.value == 3


def test_the_marginal_kl_on_the_sphere_and_the_information_make_up_the_kl() -> None:
    model = OnTheSphere()
    batch = model.draw(500)
    split = encode_split(model, [batch], CPU)
    information = mutual_information(split.posterior, split.z)
    total = information.estimate.value + marginal_kl(split, information).estimate.value
    assert total == pytest.approx(split.kl.mean().item(), abs=0.2)
    assert abs(marginal_kl(split, information).estimate.value) < 0.1
