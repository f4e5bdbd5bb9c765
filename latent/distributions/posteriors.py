"""Posteriors by configuration: what makes q(z|x) of an encoder's features, among them families with a floor on the KL.

`priors` are those that a posterior goes with, its own default first: a floor is one under the KL to N(0, I) alone, and
what lies on a sphere has no density elsewhere. `least_size` is the fewest latent dimensions. `is_free` says of a
posterior what it says of its head, and `is_product` that q is one over the dimensions.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.distributions.batch_norm import BatchNormHeadConfig
from latent.distributions.flow_heads import FlowHeadConfig
from latent.distributions.heads import Head, NormalHead, at_least_float32, diagonal_normal
from latent.distributions.priors import (
    FlowPriorConfig,
    MixturePriorConfig,
    PriorConfig,
    StandardNormalPriorConfig,
    UniformSpherePriorConfig,
    VampPriorConfig,
)
from latent.distributions.von_mises_fisher import VonMisesFisher

LEARNED_PRIORS = (StandardNormalPriorConfig, MixturePriorConfig, VampPriorConfig, FlowPriorConfig)
LEAST_SQUARE = 1e-6  # added below the root of δ-VAE's least mean, whose slope would be infinite at 0


@dataclass(frozen=True, kw_only=True)
class NormalHeadConfig:
    """A diagonal normal."""

    kind: Literal["normal"] = "normal"
    priors: ClassVar = LEARNED_PRIORS
    least_size: ClassVar = 1
    is_free: ClassVar = True
    is_product: ClassVar = True

    def build(self, num_features: int, latent_size: int) -> NormalHead:
        """The head from features of this size."""
        return NormalHead(num_features, latent_size)


@dataclass(frozen=True, kw_only=True)
class DeltaHeadConfig:
    """A diagonal normal whose KL to N(0, I) is at least δ in every dimension, for every example."""

    kind: Literal["delta"] = "delta"
    least_kl: Annotated[float, Field(gt=0, le=10)] = 0.1  # δ, in nats per dimension
    priors: ClassVar = (StandardNormalPriorConfig,)
    least_size: ClassVar = 1
    is_free: ClassVar = False
    is_product: ClassVar = True

    def build(self, num_features: int, latent_size: int) -> "DeltaHead":
        """The head from features of this size."""
        return DeltaHead(num_features, latent_size, self.least_kl)


class DeltaHead(Head):
    r"""A diagonal normal with \(\mathrm{KL}_j \ge \delta\) by construction, from raw means m and raw scales s:

    \[ \sigma = \sigma_- + (\sigma_+ - \sigma_-) \operatorname{sigmoid}(s), \quad
       \mu = m + \operatorname{sign}(m)\, a, \quad a^2 = 2\delta + 1 + \ln \sigma^2 - \sigma^2 + 10^{-6}, \]
    with σ₋ < 1 < σ₊ the two scales at which a mean of 0 has a KL of δ. Then
    \(\mathrm{KL}_j = \delta + a |m| + \tfrac12 m^2 + \tfrac12 10^{-6}\): equal to δ but for the last term at m = 0.

    Reference: Razavi et al. 2019, "Preventing Posterior Collapse with delta-VAEs", section 2; its committed rate for
    one vector. Both signs of μ are in the family, and μ follows m with slope 1: with the positive root alone half of
    the space is out of reach, and with a rectifier under it m has no gradient where it is below 0.
    """

    is_free: ClassVar = False

    def __init__(self, num_features: int, latent_size: int, least_kl: float) -> None:
        super().__init__()
        self.least_kl = least_kl
        self.low_scale, self.high_scale = scales_of_kl(least_kl)
        self.mean = nn.Linear(num_features, latent_size)
        self.scale = nn.Linear(num_features, latent_size)

    def forward(self, features: Float[Tensor, "B H"]) -> Distribution:
        """Return q with batch shape B and event shape Z."""
        raw_mean, raw_scale = at_least_float32(self.mean(features)), at_least_float32(self.scale(features))
        scale = self.low_scale + (self.high_scale - self.low_scale) * raw_scale.sigmoid()
        square = 2 * self.least_kl + 1 + 2 * scale.log() - scale.square()
        least = (square.clamp(min=0.0) + LEAST_SQUARE).sqrt()
        return diagonal_normal(raw_mean + torch.where(raw_mean < 0, -least, least), scale)


def scales_of_kl(nats: float) -> tuple[float, float]:
    r"""The two σ with \(\mathrm{KL}(\mathcal N(0, \sigma^2) \| \mathcal N(0, 1)) =\) `nats`, by bisection."""

    def kl(log_variance: float) -> float:
        return 0.5 * (math.exp(log_variance) - log_variance - 1)

    found = []
    for end in (-2 * nats - 1, 2 * math.sqrt(nats) + nats):  # where the KL is above it
        inside, outside = 0.0, end
        for _ in range(100):
            middle = 0.5 * (inside + outside)
            inside, outside = (middle, outside) if kl(middle) < nats else (inside, middle)
        found.append(math.exp(0.5 * inside))
    return found[0], found[1]


@dataclass(frozen=True, kw_only=True)
class FixedScaleHeadConfig:
    """A normal of one given scale: a deterministic encoder as that goes to 0, with a density on the way."""

    kind: Literal["fixed_scale"] = "fixed_scale"
    scale: Annotated[float, Field(ge=1e-3, le=10)] = 0.1  # of every dimension and example
    priors: ClassVar = LEARNED_PRIORS
    least_size: ClassVar = 1
    is_free: ClassVar = False
    is_product: ClassVar = True

    def build(self, num_features: int, latent_size: int) -> "FixedScaleHead":
        """The head from features of this size."""
        return FixedScaleHead(num_features, latent_size, self.scale)


class FixedScaleHead(Head):
    r"""\(\mathcal N(W h + b, \sigma^2 I)\) with σ given: the random encoder of a constant variance.

    Its KL to N(0, I) is \(\tfrac12 \sum_j (\mu_j^2 + \sigma^2 - \ln \sigma^2 - 1)\), at least 1.80 nats a dimension for
    σ = 0.1. Reference: Ghosh et al. 2020, "From Variational to Deterministic Autoencoders".
    """

    is_free: ClassVar = False

    def __init__(self, num_features: int, latent_size: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.mean = nn.Linear(num_features, latent_size)

    def forward(self, features: Float[Tensor, "B H"]) -> Distribution:
        """Return q with batch shape B and event shape Z."""
        mean = at_least_float32(self.mean(features))
        return diagonal_normal(mean, torch.full_like(mean, self.scale))


@dataclass(frozen=True, kw_only=True)
class VonMisesFisherHeadConfig:
    """Von Mises–Fisher on the unit sphere; a fixed concentration makes the KL to the uniform sphere a constant."""

    kind: Literal["von_mises_fisher"] = "von_mises_fisher"
    concentration: Annotated[float, Field(gt=0, le=10_000)] = 80.0  # where it is learned, the least
    learned_concentration: bool = False  # one for each example
    priors: ClassVar = (UniformSpherePriorConfig,)
    least_size: ClassVar = 2  # of fewer dimensions there is no sphere
    is_free: ClassVar = False
    is_product: ClassVar = False

    def build(self, num_features: int, latent_size: int) -> "VonMisesFisherHead":
        """The head from features of this size."""
        return VonMisesFisherHead(num_features, latent_size, self.concentration, learned=self.learned_concentration)


class VonMisesFisherHead(Head):
    r"""\(\mu = Wh + b\) brought to unit length, and κ fixed, or \(\kappa_0 + \operatorname{softplus}(w^\top h + c)\).

    With the floor κ₀ a learned κ leaves at least the KL of κ₀. References: Xu & Durrett 2018, "Spherical Latent Spaces
    for Stable Variational Autoencoders" (fixed); Davidson et al. 2018, "Hyperspherical Variational Auto-Encoders"
    (learned, with a floor of 1).
    """

    is_free: ClassVar = False

    def __init__(self, num_features: int, latent_size: int, concentration: float, *, learned: bool) -> None:
        super().__init__()
        self.least_concentration = concentration
        self.mean = nn.Linear(num_features, latent_size)
        self.concentration = nn.Linear(num_features, 1) if learned else None

    def forward(self, features: Float[Tensor, "B H"]) -> VonMisesFisher:
        """Return q with batch shape B and event shape Z."""
        loc = F.normalize(at_least_float32(self.mean(features)), dim=-1)
        least = torch.full_like(loc[:, 0], self.least_concentration)
        if self.concentration is None:
            return VonMisesFisher(loc, least)
        return VonMisesFisher(loc, least + F.softplus(at_least_float32(self.concentration(features))[:, 0]))

    def nearest(self, z: Float[Tensor, "*N Z"]) -> Float[Tensor, "*N Z"]:
        """The point nearest to z that a draw of q can be: z brought to unit length."""
        return F.normalize(z, dim=-1)


PosteriorConfig = Annotated[
    BatchNormHeadConfig
    | DeltaHeadConfig
    | FixedScaleHeadConfig
    | FlowHeadConfig
    | NormalHeadConfig
    | VonMisesFisherHeadConfig,
    Field(discriminator="kind"),
]


def prior_for(posterior: PosteriorConfig, prior: PriorConfig | None, latent_size: int) -> PriorConfig:
    """The prior itself, or where it is None the posterior's default.

    Raises ValueError for a pair that cannot be, and for fewer latent dimensions than the posterior needs.
    """
    if latent_size < posterior.least_size:
        raise ValueError(f"posterior {posterior.kind} needs latent_size {posterior.least_size} or more")
    if prior is None:
        default: PriorConfig = posterior.priors[0]()
        return default
    known = [each.kind for each in posterior.priors]
    if prior.kind not in known:
        raise ValueError(f"posterior {posterior.kind} goes with prior {' or '.join(known)}, not with {prior.kind}")
    if latent_size < prior.least_size:
        raise ValueError(f"prior {prior.kind} needs latent_size {prior.least_size} or more")
    return prior
