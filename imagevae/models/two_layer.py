"""The VAE with two layers of latent variables of Burda et al. 2016, "Importance Weighted Autoencoders", section 5."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.likelihoods import Likelihood, LikelihoodKind
from imagevae.models.image_model import IndependentPixels
from imagevae.models.vae import Vae
from imagevae.networks import Activation, Network, default_network, perceptron
from latent.bound import ModelConfig
from latent.distributions import Hierarchy, NormalHead, NormalHeadConfig, StandardNormalPriorConfig, standard_normal


@dataclass(frozen=True, kw_only=True)
class TwoLayerVaeConfig(ModelConfig):
    """q(z₁|x) q(z₂|z₁) and p(z₂) p(z₁|z₂) p(x|z₁); the defaults are Burda et al. 2016's.

    `top_hidden_sizes` are the hidden layers from z₁ to z₂, in reverse from z₂ to z₁, with the network's activation.
    """

    kind: Literal["two_layer_vae"] = "two_layer_vae"
    latent_sizes: tuple[PositiveInt, PositiveInt] = (100, 50)  # z₁ and z₂
    network: Network = field(default_factory=default_network)
    top_hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=20)] = (100, 100)
    likelihood: LikelihoodKind = "bernoulli"

    @property
    def posterior_is_free(self) -> bool:
        """No: a layer's posterior is a network's of the other's z."""
        return False

    @property
    def has_kl_per_dimension(self) -> bool:
        """No: of a hierarchy it is a mean over draws."""
        return False

    def build(self, form: ImageForm) -> "TwoLayerVae":
        """The model for images of this form, whether or not they have labels."""
        return TwoLayerVae(form, self.latent_sizes, self.network, self.top_hidden_sizes, self.likelihood)


class ConditionalNormal(nn.Module):
    """A diagonal normal whose mean and scale are a perceptron's of another layer's z."""

    def __init__(self, sizes: tuple[int, ...], latent_size: int, activation: Activation) -> None:
        super().__init__()
        self.layers = perceptron(sizes, activation)
        self.head = NormalHead(sizes[-1], latent_size)

    def forward(self, z: Float[Tensor, "N Z"]) -> Distribution:
        """Batch shape N, event shape the other layer's."""
        found: Distribution = self.head(self.layers(z))
        return found


class TwoLayerVae(IndependentPixels):
    r"""One latent vector z = [z₁, z₂], whose posterior and prior are hierarchies in opposite directions:

    \[ \log w = \log p(x|z_1) + \log p(z_1|z_2) + \log p(z_2) - \log q(z_1|x) - \log q(z_2|z_1). \]

    The KL is the Monte Carlo mean of the last four terms, so that the bound of one draw is the ELBO, as in the paper.
    KL(q(z₂|z₁) || p(z₂)) is known in closed form, but is not put there: near q(z₂|z₁) = p(z₂|z₁) the three terms with
    z₂ in them make log p(z₁), whatever z₂ was drawn, and a mean in place of one of them brings the draw's noise back.
    """

    def __init__(
        self,
        form: ImageForm,
        latent_sizes: tuple[int, int],
        network: Network,
        top_hidden_sizes: tuple[int, ...],
        likelihood: LikelihoodKind,
    ) -> None:
        super().__init__()
        self.bottom_size, self.top_size = latent_sizes
        self.form = form
        self.num_classes = 0  # that it is told
        self.latent_size = self.bottom_size + self.top_size
        self.bottom = Vae(
            form, 0, self.bottom_size, network, likelihood, NormalHeadConfig(), StandardNormalPriorConfig()
        )
        up, down = (self.bottom_size, *top_hidden_sizes), (self.top_size, *reversed(top_hidden_sizes))
        self.top_encoder = ConditionalNormal(up, self.top_size, network.activation)
        self.top_decoder = ConditionalNormal(down, self.bottom_size, network.activation)

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z₁)'s last step."""
        return self.bottom.likelihood

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Let the decoder begin with the mean of the training images."""
        self.bottom.start_at(mean)

    @property
    def posterior_is_free(self) -> bool:
        """No: z₂'s posterior is a network's of z₁."""
        return False

    def posterior(self, batch: ImageBatch) -> Distribution:
        """q(z₁|x) q(z₂|z₁): batch shape B, event shape Z."""
        return Hierarchy(self.bottom.posterior(batch), self.top_encoder, self.top_size)

    def prior(self, batch: ImageBatch) -> Distribution:
        """p(z₂) p(z₁|z₂): batch shape B, event shape Z."""
        first = standard_normal(len(batch), self.top_size, self.top_decoder.head.mean.weight)
        return Hierarchy(first, self.top_decoder, self.bottom_size, first_leads=False)

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(x|z₁) in nats, summed over the pixels."""
        return self.bottom.log_likelihood(z[..., : self.bottom_size], batch)

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """What the decoder says of each of D pixels: the logit of a Bernoulli, the location of other likelihoods."""
        return self.bottom.outputs(z[..., : self.bottom_size], batch)
