r"""PixelVAE (Gulrajani et al. 2017): a VAE whose decoder predicts each pixel from z and all before it; PixelCNN alone.

\[ \log p(x) \ge \mathbb{E}_{q(z|x)} \sum_i \log p(x_i \mid x_{<i}, z) - \mathrm{KL}(q(z|x) \| \mathcal N(0, I)) \]

What the decoder sees of the pixels before need not be in z: the wider its view, the less z is used.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.likelihoods import Bernoulli
from imagevae.networks import ConvConfig, Network
from imagevae.pixelcnn import PixelDecoder, Positions
from latent.bound import LatentModel, ModelConfig
from latent.distributions import NormalHead, standard_normal


@dataclass(frozen=True, kw_only=True)
class PixelConfig(ModelConfig):
    """Masked convolutions: their number and sizes are those of Gulrajani et al. 2017 for MNIST."""

    kind: str
    kernel_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=50)] = (
        7,
        *(5,) * 12,
    )  # a layer each
    num_maps: PositiveInt = 16  # of either stack in each layer
    num_features: PositiveInt = 16  # maps that tell each layer of the place, and what z says there
    likelihood: Literal["bernoulli"] = "bernoulli"

    def __post_init__(self) -> None:
        for size in self.kernel_sizes:
            if size % 2 == 0 or size == 1:
                raise ValueError(f"kernel_sizes: a masked convolution is 3, 5, 7, … pixels wide, not {size}")

    def decoder(self, form: ImageForm, features: nn.Module) -> PixelDecoder:
        """p(x|z), with a module that makes the maps of z."""
        return PixelDecoder(
            form,
            features,
            kernel_sizes=self.kernel_sizes,
            num_maps=self.num_maps,
            num_features=self.num_features,
        )


@dataclass(frozen=True, kw_only=True)
class PixelCnnConfig(PixelConfig):
    """The decoder of `kind: pixelvae` by itself: the maps that its layers read are learned, the same for all images."""

    kind: Literal["pixelcnn"] = "pixelcnn"

    @property
    def posterior_is_free(self) -> bool:
        """There is no z."""
        return False

    def build(self, form: ImageForm) -> "PixelCnn":
        """The model for images of this form, whether or not they have labels."""
        return PixelCnn(form, self.decoder(form, Positions(self.num_features * form.height * form.width)))


@dataclass(frozen=True, kw_only=True)
class PixelVaeConfig(PixelConfig):
    """q(z|x) a diagonal normal, p(z) = N(0, I); `network` encodes images and decodes z into maps of their size."""

    kind: Literal["pixelvae"] = "pixelvae"
    latent_size: PositiveInt = 16
    network: Network = field(default_factory=ConvConfig)

    def build(self, form: ImageForm) -> "PixelVae":
        """The model for images of this form, whether or not they have labels."""
        features = self.network.decoder(replace(form, channels=self.num_features), self.latent_size)
        encoder = self.network.encoder(form, 0)
        return PixelVae(form, encoder, NormalHead(encoder.num_features, self.latent_size), self.decoder(form, features))


class PixelModel(LatentModel[ImageBatch]):
    """p(x|z) a `PixelDecoder`; E[x|z] is out of reach, so that a picture of z is a draw."""

    shown_as: ClassVar = "x ~ p(x|z)"
    num_classes = 0  # that it is told

    def __init__(self, form: ImageForm, decoder: PixelDecoder) -> None:
        super().__init__()
        self.form = form
        self.decoder = decoder
        self.likelihood = Bernoulli(form.num_pixels)

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Let the decoder begin with the mean of the training images."""
        self.decoder.start_at(self.likelihood.initial_bias(torch.from_numpy(mean).float().flatten()))

    def prior(self, batch: ImageBatch) -> Distribution:
        """N(0, I): batch shape B, event shape Z."""
        return standard_normal(len(batch), self.latent_size, self.decoder.start)

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(x|z) in nats, summed over the pixels."""
        return self.likelihood.log_prob(self.outputs(z, batch), batch.pixels.flatten(1))

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """The logit of each of D pixels given z and the batch's own pixels before it."""
        pixels = batch.pixels.expand(len(z), *batch.pixels.shape).flatten(0, 1)
        logits: Tensor = self.decoder(z.flatten(0, 1), pixels).flatten(1).unflatten(0, z.shape[:2])
        return logits

    def shown(self, z: Float[Tensor, "B Z"], batch: ImageBatch) -> Float[Tensor, "B D"]:
        """A draw of p(x|z)."""
        return self.drawn(z, batch)

    def drawn(self, z: Float[Tensor, "B Z"], batch: ImageBatch) -> Float[Tensor, "B D"]:
        """A draw of p(x|z), pixel by pixel; of the batch nothing is read."""
        uniform = torch.rand(len(z), *self.form.shape, dtype=z.dtype, device=z.device)
        return self.decoder.sample(z, uniform).flatten(1)

    def drawing(self, z: Float[Tensor, "B Z"], batch: ImageBatch) -> None:
        """None: a pixel that is drawn is not changed again."""


class PixelVae(PixelModel):
    """A `PixelModel` with an encoder."""

    def __init__(self, form: ImageForm, encoder: nn.Module, head: NormalHead, decoder: PixelDecoder) -> None:
        super().__init__(form, decoder)
        self.latent_size = head.mean.out_features
        self.encoder = encoder
        self.head = head

    def posterior(self, batch: ImageBatch) -> Distribution:
        """q(z|x): batch shape B, event shape Z."""
        pixels = batch.pixels.to(self.head.mean.weight.dtype)
        q: Distribution = self.head(self.encoder(pixels, pixels.new_zeros(len(batch), 0)))
        return q


class PixelCnn(PixelModel):
    """p(x) as a decoder of a z without dimensions, so that the KL is 0 and the bound exact."""

    latent_size = 0

    def posterior(self, batch: ImageBatch) -> Distribution:
        """The prior: batch shape B, event shape 0."""
        return self.prior(batch)
