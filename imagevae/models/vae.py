"""The VAE of Kingma & Welling 2014, "Auto-Encoding Variational Bayes", and its class-conditional form, the CVAE."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.discriminator import Discriminator
from imagevae.form import ImageForm
from imagevae.likelihoods import LIKELIHOODS, LikelihoodKind
from imagevae.models.image_model import IndependentPixels
from imagevae.networks import Network, default_network
from latent.bound import ModelConfig, WithPosterior
from latent.distributions import (
    FlowHeadConfig,
    FlowPriorConfig,
    Head,
    MixturePriorConfig,
    NormalHead,
    NormalHeadConfig,
    PriorConfig,
    StandardNormalPriorConfig,
    prior_for,
)

Posterior = Annotated[FlowHeadConfig | NormalHeadConfig, Field(discriminator="kind")]
Prior = Annotated[FlowPriorConfig | MixturePriorConfig | StandardNormalPriorConfig, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True)
class VaeConfig(WithPosterior):
    """The defaults are the one-layer model of Burda et al. 2016: p(z) = N(0, I), q(z|x) a diagonal normal."""

    kind: Literal["vae"] = "vae"
    latent_size: PositiveInt = 50
    network: Network = field(default_factory=default_network)
    likelihood: LikelihoodKind = "bernoulli"
    posterior: Posterior = field(default_factory=NormalHeadConfig)
    prior: Prior | None = None  # N(0, I)

    def __post_init__(self) -> None:
        prior_for(self.posterior, self.prior, self.latent_size)

    def build(self, form: ImageForm) -> "Vae":
        """The model for images of this form, whether or not they have labels."""
        prior = prior_for(self.posterior, self.prior, self.latent_size)
        return Vae(form, 0, self.latent_size, self.network, self.likelihood, self.posterior, prior)


@dataclass(frozen=True, kw_only=True)
class CvaeConfig(ModelConfig):
    """p(x|z, y), q(z|x, y) and p(z|y), y being the image's class (Sohn et al. 2015).

    The importance-weighted bound is one on log p(x|y): less than log p(x) by what the class tells, ln K at most, is
    the fair comparison with a model that is not given y.
    """

    kind: Literal["cvae"] = "cvae"
    latent_size: PositiveInt = 50
    network: Network = field(default_factory=default_network)
    likelihood: LikelihoodKind = "bernoulli"
    prior: Literal["standard", "learned"] = "standard"  # N(0, I), or a normal for each class

    def build(self, form: ImageForm) -> "Vae":
        """The model for labelled images of this form. Raises ValueError where they have no labels."""
        if form.num_classes == 0:
            raise ValueError("model.kind: a cvae is given each image's class, and the corpus has no labels; use vae")
        prior = None if self.prior == "learned" else StandardNormalPriorConfig()
        return Vae(form, form.num_classes, self.latent_size, self.network, self.likelihood, NormalHeadConfig(), prior)


class Vae(IndependentPixels):
    """q(z|x, y), p(z|y) and p(x|z, y), where y is one of K classes, or nothing at all (K = 0).

    Without a prior of every class's own, p(z|y) is a learned normal.
    """

    def __init__(
        self,
        form: ImageForm,
        num_classes: int,
        latent_size: int,
        network: Network,
        likelihood: LikelihoodKind,
        posterior: Posterior,
        prior: PriorConfig | None,
    ) -> None:
        super().__init__()
        self.form = form
        self.num_classes = num_classes
        self.latent_size = latent_size
        self.encoder = network.encoder(form, num_classes)
        self.head: Head = posterior.build(self.encoder.num_features, latent_size)
        self.decoder = network.decoder(form, latent_size + num_classes)
        self.likelihood = LIKELIHOODS[likelihood](form.num_pixels)
        self.latent_prior = None if prior is None else prior.build(latent_size)
        self.prior_head = NormalHead(num_classes, latent_size) if prior is None else None
        if self.prior_head is not None:  # begin at N(0, I)
            for parameter in self.prior_head.parameters():
                nn.init.zeros_(parameter)

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Let the decoder begin with the mean of the training images."""
        self.decoder.start_at(self.likelihood.initial_bias(torch.from_numpy(mean).float().flatten()))

    def posterior(self, batch: ImageBatch) -> Distribution:
        """q(z|x, y): batch shape B, event shape Z."""
        pixels = batch.pixels.to(self._weight.dtype)
        q: Distribution = self.head(self.encoder(pixels, self.context(batch)))
        return q

    def prior(self, batch: ImageBatch) -> Distribution:
        """p(z|y): batch shape B, event shape Z."""
        p: Distribution
        if self.latent_prior is not None:
            p = self.latent_prior(len(batch))
        else:
            assert self.prior_head is not None
            p = self.prior_head(self.context(batch))
        return p

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(x|z, y) in nats, summed over the pixels."""
        return self.likelihood.log_prob(self.outputs(z, batch), batch.pixels.flatten(1))

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """What the decoder says of each of D pixels: the logit of a Bernoulli, the location of other likelihoods."""
        context = self.context(batch).expand(len(z), -1, -1)
        flat: Tensor = self.decoder(torch.cat([z, context], -1).flatten(0, 1))
        outputs: Tensor = flat.unflatten(0, z.shape[:2])
        return outputs

    def discriminator(self, channels: Sequence[int], hidden_size: int, feature_layer: int) -> Discriminator:
        """A network that tells images from what the decoder makes."""
        return Discriminator(self.form, channels, hidden_size, feature_layer)

    def observed(self, batch: ImageBatch) -> Float[Tensor, "B C H W"]:
        """x, as a discriminator sees it."""
        return batch.pixels.to(self._weight.dtype)

    def generated(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "N C H W"]:
        """E[x|z] of S times B images: as a discriminator sees them, pixels are not drawn."""
        return self.form.images(self.likelihood.mean(self.outputs(z, batch).flatten(0, 1)))

    def decoder_parameters(self) -> list[nn.Parameter]:
        """θ: the decoder's, and the scales of a likelihood that has any."""
        return [value for name, value in self.named_parameters() if name.startswith(("decoder.", "likelihood."))]

    @property
    def _weight(self) -> nn.Parameter:
        """One of the model's weights: its type and device are those of all."""
        return next(self.decoder.parameters())

    def context(self, batch: ImageBatch) -> Float[Tensor, "B Y"]:
        """y as one of K, or no column at all."""
        weight = self._weight
        if self.num_classes == 0:
            return weight.new_zeros(len(batch), 0)
        assert batch.labels is not None
        return F.one_hot(batch.labels, self.num_classes).to(weight.dtype)
