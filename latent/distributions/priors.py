"""Priors by configuration: each gives the same p(z) for every example of a batch, a product over dimensions or not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.distributions.autoregressive import AutoregressiveStep, InvertedStep, UnivariateName
from latent.distributions.families import factors
from latent.distributions.flows import Flow, FlowDistribution
from latent.distributions.heads import standard_normal
from latent.distributions.mixtures import NormalMixture, NormalMixturePrior
from latent.distributions.von_mises_fisher import UniformSphere

PosteriorOf = Callable[[Float[Tensor, "K L E"]], Distribution]  # of K sequences of L vectors, as the encoder reads them


@dataclass(frozen=True)
class SequenceReader:
    """An encoder of sequences of vectors of `embedding_size`: what a prior of pseudo-inputs needs of a model."""

    embedding_size: int
    posterior_of: PosteriorOf


@dataclass(frozen=True, kw_only=True)
class StandardNormalPriorConfig:
    """N(0, I)."""

    kind: Literal["standard_normal"] = "standard_normal"
    least_size: ClassVar = 1
    is_product: ClassVar = True

    def build(self, latent_size: int, reader: SequenceReader | None = None) -> "FixedPrior":
        """The prior of a z of this size."""
        return FixedPrior(standard_normal, latent_size)


@dataclass(frozen=True, kw_only=True)
class UniformSpherePriorConfig:
    """Uniform on the unit sphere."""

    kind: Literal["uniform_sphere"] = "uniform_sphere"
    least_size: ClassVar = 1
    is_product: ClassVar = False

    def build(self, latent_size: int, reader: SequenceReader | None = None) -> "FixedPrior":
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
    least_size: ClassVar = 1
    is_product: ClassVar = False

    def build(self, latent_size: int, reader: SequenceReader | None = None) -> NormalMixturePrior:
        """The prior of a z of this size."""
        return NormalMixturePrior(self.num_components, latent_size, self.variance_floor)


@dataclass(frozen=True, kw_only=True)
class VampPriorConfig:
    """The mean of the posteriors of learned pseudo-inputs; the KL to it is a Monte Carlo estimate."""

    kind: Literal["vamp"] = "vamp"
    num_components: PositiveInt = 50
    length: PositiveInt = 15  # vectors in a pseudo-input, each in the place of a word's embedding
    least_size: ClassVar = 1
    is_product: ClassVar = False

    def build(self, latent_size: int, reader: SequenceReader | None = None) -> "VampPrior":
        """The prior of a model that has a reader."""
        assert reader is not None
        return VampPrior(self.num_components, self.length, reader.embedding_size, reader.posterior_of)


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


@dataclass(frozen=True, kw_only=True)
class FlowPriorConfig:
    """A learned flow of N(0, I) with a density in one pass: a masked autoregressive one (MAF) or of splines (NSF)."""

    kind: Literal["flow"] = "flow"
    transform: Literal["maf", "nsf"] = "maf"
    length: Annotated[int, Field(ge=1, le=100)] = 3  # steps in a row
    hidden_size: PositiveInt = 64  # of the two hidden layers of each step's network
    least_size: ClassVar = 2  # of one dimension nothing is autoregressive
    is_product: ClassVar = False

    def build(self, latent_size: int, reader: SequenceReader | None = None) -> "FlowPrior":
        """The prior of a z of this size."""
        return FlowPrior(latent_size, self.length, self.hidden_size, "affine" if self.transform == "maf" else "spline")


class FlowPrior(nn.Module):
    r"""\(\ln p(z) = \ln \mathcal N(f(z); 0, I) + \ln |\det \partial f / \partial z|\), f autoregressive steps in a row.

    The density at any z is one pass, a draw Z passes a step. The order of the dimensions is reversed from each step to
    the next. It begins near N(0, I). References: as of `AutoregressiveStep`; as a prior: Huang et al. 2017, "Learnable
    Explicit Density for Continuous Latent Space and Variational Inference".
    """

    def __init__(self, latent_size: int, length: int, hidden_size: int, univariate: UnivariateName) -> None:
        super().__init__()
        self.flow = Flow(
            [
                InvertedStep(AutoregressiveStep(latent_size, 0, hidden_size, univariate, is_reversed=number % 2 == 1))
                for number in range(length)
            ]
        )
        self.origin: Tensor
        self.register_buffer("origin", torch.zeros(latent_size), persistent=False)

    def forward(self, batch_size: int) -> FlowDistribution:
        """The same distribution for each example of a batch."""
        base = standard_normal(batch_size, len(self.origin), self.origin)
        return FlowDistribution(base, self.flow, self.origin.new_zeros(batch_size, 0))


PriorConfig = Annotated[
    FlowPriorConfig | MixturePriorConfig | StandardNormalPriorConfig | UniformSpherePriorConfig | VampPriorConfig,
    Field(discriminator="kind"),
]
