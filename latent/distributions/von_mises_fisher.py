"""The von Mises–Fisher distribution on the unit sphere, and the uniform one: posterior and prior of a directional z."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Beta, Distribution
from torch.distributions.kl import register_kl

from latent.distributions.bessel import log_scaled_bessel
from latent.distributions.families import Change, change_rows, concatenate, detach, device_of, pairwise_log_prob

PROPOSALS = 8  # at once for each draw; two in three are accepted or more, so that a second round is seldom needed
REACH = 12.0  # standard deviations beyond which the density of an angle is nothing
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)


class VonMisesFisher(Distribution):
    r"""\(q(z) = C_d(\kappa)\, e^{\kappa \mu^\top z}\) on the unit sphere in \(\mathbb{R}^d\), Z = d.

    Batch shape B, event shape Z. `loc` is μ, of unit length, `concentration` κ > 0. Densities are with respect to the
    sphere's surface:
    \[ \ln C_d(\kappa) = (\tfrac d2 - 1) \ln \kappa - \tfrac d2 \ln 2\pi - \ln I_{d/2-1}(\kappa). \]
    The mean is \(A_d(\kappa) \mu\) with \(A_d = I_{d/2} / I_{d/2-1}\), inside the sphere. Functions of κ are computed
    in float64. Raises ValueError for d < 2, where there is no sphere.

    References: Mardia & Jupp 2000, "Directional Statistics", section 9.3; Davidson et al. 2018, "Hyperspherical
    Variational Auto-Encoders".
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name for what it checks of the parameters
    has_rsample = True

    def __init__(self, loc: Float[Tensor, "*B Z"], concentration: Float[Tensor, "*B"]) -> None:
        if loc.shape[-1] < 2:
            raise ValueError(f"a sphere needs at least 2 dimensions (got {loc.shape[-1]})")
        self.loc = loc
        self.concentration = concentration
        # at once and not when asked for, lest what is first asked for without gradients be kept without them
        kappa, order = concentration.double(), self.latent_size / 2 - 1
        log_bessel, log_next_bessel = log_scaled_bessel(order, kappa), log_scaled_bessel(order + 1, kappa)
        log_scale = order * kappa.log() - (order + 1) * math.log(2 * math.pi)
        self.log_normaliser: Float64[Tensor, "*B"] = log_scale - log_bessel - kappa  # ln C_d(κ) in nats
        self.mean_length: Float64[Tensor, "*B"] = (log_next_bessel - log_bessel).exp()  # A_d(κ) = E[μᵀz]
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def latent_size(self) -> int:
        """The dimension d of the space around the sphere."""
        return self.loc.shape[-1]

    @property
    def mean(self) -> Float[Tensor, "*B Z"]:
        """A_d(κ) μ."""
        return self.mean_length.unsqueeze(-1).to(self.loc.dtype) * self.loc

    @property
    def variance(self) -> Float[Tensor, "*B Z"]:
        r"""Of each coordinate: \(\mu_j^2 \operatorname{Var}(\mu^\top z) + (1 - \mu_j^2) A_d / \kappa\)."""
        length, kappa = self.mean_length, self.concentration.double()
        across = length / kappa
        along = (1 - length.square() - (self.latent_size - 1) * across).clamp(min=0.0)
        share = self.loc.double().square()
        found: Tensor = share * along.unsqueeze(-1) + (1 - share) * across.unsqueeze(-1)
        return found.to(self.loc.dtype)

    def entropy(self) -> Float[Tensor, "*B"]:
        """−ln C_d(κ) − κ A_d(κ) in nats."""
        return (-self.log_normaliser - self.concentration.double() * self.mean_length).to(self.loc.dtype)

    def log_prob(self, value: Float[Tensor, "*S Z"]) -> Float[Tensor, "*S"]:
        """ln q(z) in nats, of z on the sphere."""
        cosine = (self.loc.double() * value.double()).sum(-1)
        return (self.log_normaliser + self.concentration.double() * cosine).to(self.loc.dtype)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "*S Z"]:
        r"""Draws \(z = w \mu + \sqrt{1 - w^2}\, v\), with gradients through μ and κ.

        w = μᵀz by rejection (`_cosine_gap`), v uniform among the directions orthogonal to μ: the part of normal noise
        that is. Reference: Wood 1994, "Simulation of the von Mises Fisher distribution".
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        gap = self._cosine_gap(shape[:-1])
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        across = noise - (noise * self.loc).sum(-1, keepdim=True) * self.loc
        along = (1 - gap).unsqueeze(-1).to(self.loc.dtype)
        radius = (gap * (2 - gap)).sqrt().unsqueeze(-1).to(self.loc.dtype)
        z = along * self.loc + radius * F.normalize(across, dim=-1)
        return F.normalize(z, dim=-1)  # of what little is left across, μ is taken away with a rounding error

    def _cosine_gap(self, shape: torch.Size) -> Float64[Tensor, "*S"]:
        r"""1 − w, whose digits survive where w is close to 1.

        κ's gradient is the implicit one, \(\partial w / \partial \kappa = -\partial_\kappa F(w; \kappa) / p(w;
        \kappa)\), which asks for no correction for the rejections (Figurnov et al. 2018, "Implicit Reparameterization
        Gradients").
        """
        kappa = self.concentration.double().expand(shape)
        with torch.no_grad():
            gap = _draw_gap(kappa, self.latent_size)
        if not kappa.requires_grad:
            return gap
        slope = _cosine_slope(gap, kappa.detach(), self.mean_length.detach(), self.latent_size)
        return gap - slope * (kappa - kappa.detach())


def _draw_gap(kappa: Float64[Tensor, "*S"], latent_size: int) -> Float64[Tensor, "*S"]:
    """1 − w, w with the density ∝ exp(κw) (1 − w²)^((d − 3) / 2), by rejection from Wood's envelope.

    Several proposals are made for each draw and the first good one is kept, so that the loop, which waits for the
    device, goes round once as a rule.
    """
    freedom = latent_size - 1
    b = freedom / (2 * kappa + (4 * kappa.square() + freedom**2).sqrt())
    x0 = (1 - b) / (1 + b)
    log_x0_gap = (4 * b / (1 + b).square()).log()  # ln(1 − x0²)
    half = torch.tensor(freedom / 2, dtype=kappa.dtype, device=kappa.device)
    beta = Beta(half, half, validate_args=False)
    most = 2 * (1 - torch.finfo(kappa.dtype).eps)  # at the opposite pole itself the gradient would be infinite
    found, is_drawn = torch.zeros_like(kappa), torch.zeros_like(kappa, dtype=torch.bool)
    while not is_drawn.all():
        proposed = beta.sample((PROPOSALS, *kappa.shape)).clamp(min=torch.finfo(kappa.dtype).tiny)
        gap = (2 * b * proposed / (1 - (1 - b) * proposed)).clamp(max=most)
        log_ratio = kappa * (1 - gap - x0) + freedom * ((1 - x0 * (1 - gap)).log() - log_x0_gap)
        is_good = log_ratio >= torch.rand_like(gap).log()
        first = is_good.to(torch.uint8).argmax(0, keepdim=True)  # the first of the largest
        found = torch.where(is_drawn, found, gap.gather(0, first)[0])
        is_drawn = is_drawn | is_good.any(0)
    return found


def _cosine_slope(
    gap: Float64[Tensor, "*S"], kappa: Float64[Tensor, "*S"], mean_length: Float64[Tensor, "*B"], latent_size: int
) -> Float64[Tensor, "*S"]:
    r"""∂w/∂κ at fixed F(w; κ), by 64-point quadrature over the angle \(\theta = \arccos w\).

    With the angle's density \(f(\theta) \propto e^{\kappa \cos\theta} \sin^{d-2}\theta\), and since
    \(\partial_\kappa \ln p(w) = w - A_d(\kappa)\),
    \[ \frac{\partial w}{\partial\kappa} = \sin\theta \int_\theta^\pi (A_d - \cos t) \frac{f(t)}{f(\theta)}\, dt
       = \sin\theta \int_0^\theta (\cos t - A_d) \frac{f(t)}{f(\theta)}\, dt. \]
    Of the two that one is taken whose integrand is nowhere negative, so that nothing cancels.
    """
    theta = 2 * (gap / 2).sqrt().asin()
    reach = REACH / kappa.clamp(min=max(1.0, latent_size - 2)).sqrt()
    is_low = 1 - gap < mean_length
    low_end = torch.where(is_low, theta, (theta - reach).clamp(min=0.0))
    high_end = torch.where(is_low, (theta + reach).clamp(max=math.pi), theta)
    nodes, weights = (torch.as_tensor(part, dtype=gap.dtype, device=gap.device) for part in (NODES, WEIGHTS))
    half, at = (high_end - low_end).unsqueeze(-1) / 2, theta.unsqueeze(-1)
    t = low_end.unsqueeze(-1) + half * (1 + nodes)
    log_density_ratio = kappa.unsqueeze(-1) * (t.cos() - at.cos()) + (latent_size - 2) * (t.sin() / at.sin()).log()
    integrand = (mean_length.unsqueeze(-1) - t.cos()).abs() * log_density_ratio.exp()
    return theta.sin() * (half * weights * integrand).sum(-1)


class UniformSphere(Distribution):
    """The uniform distribution on the unit sphere in R^d: batch shape B, event shape Z = d, in the type of `like`."""

    arg_constraints = {}  # noqa: RUF012 - torch's name for what it checks of the parameters
    has_rsample = True

    def __init__(self, batch_size: int, latent_size: int, like: Tensor) -> None:
        self.mean_direction = like.new_zeros(batch_size, latent_size)
        super().__init__(torch.Size([batch_size]), torch.Size([latent_size]), validate_args=False)

    @property
    def log_surface(self) -> float:
        r"""ln of the sphere's surface, \(2 \pi^{d/2} / \Gamma(d/2)\)."""
        half = self.event_shape[0] / 2
        return math.log(2) + half * math.log(math.pi) - math.lgamma(half)

    @property
    def mean(self) -> Float[Tensor, "B Z"]:
        """The origin."""
        return self.mean_direction

    @property
    def variance(self) -> Float[Tensor, "B Z"]:
        """1/d in each coordinate."""
        return torch.full_like(self.mean_direction, 1 / self.event_shape[0])

    def log_prob(self, value: Float[Tensor, "*S B Z"]) -> Float[Tensor, "*S B"]:
        """−ln of the sphere's surface, in nats, of z on the sphere."""
        return torch.full_like(value[..., 0], -self.log_surface)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "*S B Z"]:
        """Directions of normal noise; there is no parameter that a gradient could go to."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.mean_direction.dtype, device=self.mean_direction.device)
        return F.normalize(noise, dim=-1)


def _kl(q: VonMisesFisher, p: UniformSphere) -> Float[Tensor, " B"]:
    """The log of the surface less q's entropy: a function of κ alone."""
    return (p.log_surface + q.log_normaliser + q.concentration.double() * q.mean_length).to(q.loc.dtype)


register_kl(VonMisesFisher, UniformSphere)(_kl)


@concatenate.register
def _(first: VonMisesFisher, *others: VonMisesFisher) -> Distribution:
    parts = (first, *others)
    return VonMisesFisher(torch.cat([q.loc for q in parts]), torch.cat([q.concentration for q in parts]))


@change_rows.register
def _(q: VonMisesFisher, change: Change) -> Distribution:
    return VonMisesFisher(change(q.loc), change(q.concentration))


@detach.register
def _(q: VonMisesFisher) -> Distribution:
    return VonMisesFisher(q.loc.detach(), q.concentration.detach())


@device_of.register
def _(q: VonMisesFisher) -> torch.device:
    return q.loc.device


@pairwise_log_prob.register
def _(q: VonMisesFisher, z: Float[Tensor, "M Z"]) -> Float[Tensor, "M N"]:
    kappa = q.concentration.double()
    return torch.addmm(q.log_normaliser, z.double(), (kappa.unsqueeze(-1) * q.loc.double()).T)
