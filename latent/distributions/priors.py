"""Priors by configuration: each gives the same p(z) for every example of a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.distributions.families import factors
from latent.distributions.heads import standard_normal
from latent.distributions.mixtures import NormalMixture, NormalMixturePrior
from latent.distributions.von_mises_fisher import UniformSphere

PosteriorOf = Callable[[Float[Tensor, "K L E"]], Distribution]  # of K sequences of L vectors, as the encoder reads them


@dataclass(frozen=True, kw_only=True)
class StandardNormalPriorConfig:
    """N(0, I)."""

    kind: Literal["standard_normal"] = "standard_normal"

    def build(self, latent_size: int, embedding_size: int, posterior_of: PosteriorOf) -> "FixedPrior":
        """The prior of a z of this size."""
        return FixedPrior(standard_normal, latent_size)


@dataclass(frozen=True, kw_only=True)
class UniformSpherePriorConfig:
    """Uniform on the unit sphere."""

    kind: Literal["uniform_sphere"] = "uniform_sphere"

    def build(self, latent_size: int, embedding_size: int, posterior_of: PosteriorOf) -> "FixedPrior":
        """The prior of a z of this size."""
        return FixedPrior(UniformSphere, latent_size)


class FixedPrior(nn.Module):
    """A distribution without weights, made of batch size, latent size and a tensor; nothing of it is stored."""

    def __init__(self, family: Callable[[int, int, Tensor], Distribution], latent_size: int) -> None:
        super().__init__()
        self.family = family
        self.origin: Tensor
        self.register_buffer("origin", torch.zeros(latent_size), persistent=False)

    def forward(self, batch_size: int) -> Distribution:
        """The distribution with batch shape `batch_size`."""
        return self.family(batch_size, len(self.origin), self.origin)


@dataclass(frozen=True, kw_only=True)
class MixturePriorConfig:
    """A learned mixture of diagonal normals; the KL to it is a Monte Carlo estimate."""

    kind: Literal["mixture"] = "mixture"
    num_components: PositiveInt = 10
    variance_floor: PositiveFloat = 1e-3  # of every component in every dimension

    def build(self, latent_size: int, embedding_size: int, posterior_of: PosteriorOf) -> NormalMixturePrior:
        """The prior of a z of this size."""
        return NormalMixturePrior(self.num_components, latent_size, self.variance_floor)


@dataclass(frozen=True, kw_only=True)
class VampPriorConfig:
    """The mean of the posteriors of learned pseudo-inputs; the KL to it is a Monte Carlo estimate."""

    kind: Literal["vamp"] = "vamp"
    num_components: PositiveInt = 50
    length: PositiveInt = 15  # vectors in a pseudo-input, each in the place of a word's embedding

    def build(self, latent_size: int, embedding_size: int, posterior_of: PosteriorOf) -> "VampPrior":
        """The prior of a model whose encoder reads sequences of vectors of `embedding_size`."""
        return VampPrior(self.num_components, self.length, embedding_size, posterior_of)


class VampPrior(nn.Module):
    r"""\(p(z) = \frac1K \sum_k q(z|u_k)\), the u_k learned sequences of L vectors that the encoder reads as embeddings.

    The weights of `posterior_of` are the model's, and learn from the prior too. The pseudo-inputs begin as uniform
    noise of the size of the embeddings of words; they have neither dropout nor a mark of beginning or end but what
    they learn. Each call encodes them anew.

    Reference: Tomczak & Welling 2018, "VAE with a VampPrior", equation 9.
    """

    def __init__(self, num_components: int, length: int, embedding_size: int, posterior_of: PosteriorOf) -> None:
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.empty(num_components, length, embedding_size).uniform_(-0.1, 0.1))
        self.posterior_of = posterior_of

    def forward(self, batch_size: int) -> NormalMixture:
        """The same mixture for each example of a batch."""
        components = factors(self.posterior_of(self.pseudo_inputs))
        assert components is not None
        means, scales = components.mean, components.stddev
        return NormalMixture(
            means.new_zeros(batch_size, len(means)),
            means.expand(batch_size, -1, -1),
            scales.expand(batch_size, -1, -1),
        )


PriorConfig = Annotated[
    MixturePriorConfig | StandardNormalPriorConfig | UniformSpherePriorConfig | VampPriorConfig,
    Field(discriminator="kind"),
]
