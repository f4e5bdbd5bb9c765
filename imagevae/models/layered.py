r"""A photograph as a background and a foreground with a latent mask between them, learned without any mask.

\[ z = (z_b, z_f, z_m) \sim \mathcal N(0, I), \quad x_i \sim \pi_i(z_m)\, \mathcal N(f_i(z_f), \Sigma(z_f))
   + (1 - \pi_i(z_m))\, \mathcal N(b_i(z_b), \Sigma(z_b)) \]

Either layer is a sum of a few cosines, whose coefficients and ln σ are linear in its own part of z. The logits of π are
those of an ellipse in the middle, which stays, and what a network of z_m adds to them within ±`reach`. What tells the
layers from one another is the form of the model alone, and no label: foreground is in the middle, and the background
may have more waves. The bound is the plain one, without a penalty.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.layers import LayeredLikelihood, centred_logits, cosines
from imagevae.models.image_model import IndependentPixels
from imagevae.networks import ConvConfig, Network
from latent.bound import ModelConfig
from latent.distributions import NormalHead, standard_normal

START_LOG_SCALE = -1.5  # of both layers: wide enough that either explains any pixel


@dataclass(frozen=True, kw_only=True)
class LayeredVaeConfig(ModelConfig):
    """The sizes of z's three parts, and how many waves each layer has down and across."""

    kind: Literal["layered_vae"] = "layered_vae"
    background_size: PositiveInt = 16
    foreground_size: PositiveInt = 8
    mask_size: PositiveInt = 16
    background_waves: PositiveInt = 3
    foreground_waves: PositiveInt = 1
    foreground_share: Annotated[float, Field(gt=0, lt=1)] = 0.25  # of the image, within the ellipse that masks begin as
    sharpness: Annotated[float, Field(gt=0)] = 4.0  # the ellipse's logit in its midst
    reach: Annotated[float, Field(gt=0)] = 1.0  # by how much z moves a logit of the mask at most
    network: Network = field(default_factory=lambda: ConvConfig(channels=(16, 32, 64), hidden_size=128))
    likelihood: Literal["layers"] = "layers"

    def build(self, form: ImageForm) -> "LayeredVae":
        """The model for images of this form, whether or not they have labels."""
        return LayeredVae(
            form,
            (self.background_size, self.foreground_size, self.mask_size),
            (self.background_waves, self.foreground_waves),
            self.network,
            foreground_share=self.foreground_share,
            sharpness=self.sharpness,
            reach=self.reach,
        )


class Waves(nn.Module):
    """A layer: from its part of z to its colours at every place and their ln σ, all of the turned channels."""

    def __init__(self, form: ImageForm, num_inputs: int, num_waves: int) -> None:
        super().__init__()
        self.num_channels = form.channels
        down, across = (cosines(size, min(num_waves, size)) for size in (form.height, form.width))
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("across", across, persistent=False)
        self.down: Tensor
        self.across: Tensor
        self.output = nn.Linear(num_inputs, form.channels * down.shape[1] * across.shape[1])
        self.log_scale = nn.Linear(num_inputs, form.channels)
        nn.init.normal_(self.output.weight, std=0.05)
        nn.init.normal_(self.log_scale.weight, std=0.05)
        nn.init.constant_(self.log_scale.bias, START_LOG_SCALE)

    def start_at(self, image: Float[Tensor, "C H W"]) -> None:
        """Begin with the waves of an image of turned channels, whatever z is."""
        with torch.no_grad():
            found = self.down.T @ image.to(self.down) @ self.across / (len(self.down) * len(self.across))
            self.output.bias.copy_(found.flatten())

    def forward(self, z: Float[Tensor, "S B Z"]) -> tuple[Float[Tensor, "S B D"], Float[Tensor, "S B C"]]:
        """Colours in a row, and ln σ."""
        shape = (self.num_channels, self.down.shape[1], self.across.shape[1])
        coefficients = self.output(z).unflatten(-1, shape)
        colours = self.down.to(coefficients) @ coefficients @ self.across.T.to(coefficients)
        return colours.flatten(-3), self.log_scale(z)


class LayeredVae(IndependentPixels):
    """p(z) = N(0, I), q(z|x) a diagonal normal, p(x|z) a mixture of two layers at each place."""

    def __init__(
        self,
        form: ImageForm,
        part_sizes: tuple[int, int, int],
        num_waves: tuple[int, int],
        network: Network,
        *,
        foreground_share: float,
        sharpness: float,
        reach: float,
    ) -> None:
        super().__init__()
        self.form, self.part_sizes, self.latent_size, self.num_classes = form, part_sizes, sum(part_sizes), 0
        self.encoder = network.encoder(form, 0)
        self.head = NormalHead(self.encoder.num_features, self.latent_size)
        self.background_decoder = Waves(form, part_sizes[0], num_waves[0])
        self.foreground_decoder = Waves(form, part_sizes[1], num_waves[1])
        self.mask_decoder = network.decoder(replace(form, channels=1), part_sizes[2])
        self.register_buffer("ellipse", centred_logits(form, foreground_share, sharpness).flatten(), persistent=False)
        self.ellipse: Tensor
        self.reach = reach
        self.likelihood = LayeredLikelihood(form)

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Let both layers begin with their waves of the training images' mean."""
        turned = torch.einsum("cd,dhw->chw", self.likelihood.turn.cpu(), torch.from_numpy(mean).float())
        for decoder in (self.background_decoder, self.foreground_decoder):
            decoder.start_at(turned)

    def posterior(self, batch: ImageBatch) -> Distribution:
        """q(z|x): batch shape B, event shape Z."""
        pixels = batch.pixels.to(self.head.mean.weight.dtype)
        q: Distribution = self.head(self.encoder(pixels, pixels.new_zeros(len(batch), 0)))
        return q

    def prior(self, batch: ImageBatch) -> Distribution:
        """N(0, I): batch shape B, event shape Z."""
        return standard_normal(len(batch), self.latent_size, self.head.mean.weight)

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(x|z) in nats, summed over the pixels."""
        return self.likelihood.log_prob(self.outputs(z, batch), batch.pixels.flatten(1))

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B A"]:
        """Both layers, the mask's logits and ln σ: what the likelihood reads."""
        of_background, of_foreground, of_mask = z.split(self.part_sizes, -1)
        background, background_scale = self.background_decoder(of_background)
        foreground, foreground_scale = self.foreground_decoder(of_foreground)
        moved = self.reach * torch.tanh(self.mask_decoder(of_mask.flatten(0, 1)).unflatten(0, z.shape[:2]))
        logits = self.ellipse.to(moved) + moved
        return torch.cat([background, foreground, logits, background_scale, foreground_scale], -1)
