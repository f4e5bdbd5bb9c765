r"""DRAW (Gregor et al. 2015): an image drawn in T steps on a canvas, each with a z of its own.

\[ \log p(x) \ge \mathbb{E}_q \Big[ \log p(x|c_T) - \sum_t \mathrm{KL}(q(z_t|x, z_{<t}) \| \mathcal N(0, I)) \Big] \]
"""

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.draw import Decoder, Drawings, Encoder, Hand
from imagevae.drawing import Drawing
from imagevae.form import ImageForm
from imagevae.likelihoods import Bernoulli
from imagevae.models.image_model import IndependentPixels
from latent.bound import ElboTerms, ModelConfig
from latent.distributions import Kl, log_prob, standard_normal


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Windows of N×N Gaussian filters; the paper's for MNIST."""

    read_size: PositiveInt = 2
    write_size: PositiveInt = 5


@dataclass(frozen=True, kw_only=True)
class DrawConfig(ModelConfig):
    """`num_steps` steps with a z of `latent_size` each; `attention: null` reads and writes whole images.

    The sizes are the paper's for MNIST, but for its 64 steps and z of 100.
    """

    kind: Literal["draw"] = "draw"
    num_steps: PositiveInt = 10
    latent_size: PositiveInt = 10  # of a step
    hidden_size: PositiveInt = 256  # of encoder and decoder
    attention: AttentionConfig | None = None
    likelihood: Literal["bernoulli"] = "bernoulli"

    @property
    def posterior_is_free(self) -> bool:
        """No: each step's posterior is a network's of what has been drawn."""
        return False

    def build(self, form: ImageForm) -> "Draw":
        """The model for images of this form, whether or not they have labels."""
        read, write = (None, None) if self.attention is None else (self.attention.read_size, self.attention.write_size)
        encoder = Encoder(form, self.latent_size, self.hidden_size, read)
        decoder = Decoder(form, self.latent_size, self.hidden_size, write)
        return Draw(form, Hand(encoder, decoder, self.num_steps))


class Draw(IndependentPixels):
    """One latent vector z = [z_1, …, z_T] with prior N(0, I), of which the decoder makes a canvas, the pixels' logits.

    The posterior's steps see the canvas so far. The KL is closed at each step, given those before, and a mean over
    draws of these: of a single step it is the KL itself. c_0 is learned, and begins at the training images' mean; the
    LSTMs' states begin at 0.
    """

    def __init__(self, form: ImageForm, hand: Hand) -> None:
        super().__init__()
        self.form = form
        self.num_classes = 0  # that it is told
        self.latent_size = hand.num_steps * hand.decoder.latent_size
        self.hand = hand
        self.likelihood = Bernoulli(form.num_pixels)

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Let the canvas begin with the mean of the training images."""
        with torch.no_grad():
            self.hand.decoder.start.copy_(self.likelihood.initial_bias(torch.from_numpy(mean).float().flatten()))

    @property
    def posterior_is_free(self) -> bool:
        """No: each step's posterior is a network's of what has been drawn."""
        return False

    def posterior(self, batch: ImageBatch) -> Drawings:
        """q(z|x): batch shape B, event shape Z = T times a step's."""
        return Drawings(self.hand, batch.pixels, self.latent_size)

    def prior(self, batch: ImageBatch) -> Distribution:
        """N(0, I): batch shape B, event shape Z."""
        return standard_normal(len(batch), self.latent_size, self.hand.decoder.start)

    def encoder_parameters(self, batch: ImageBatch) -> list[nn.Parameter]:
        """φ: the encoder's, its reading among them. A draw depends on the decoder too, by the canvas that is seen."""
        return list(self.hand.encoder.parameters())

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(x|z) in nats, summed over the pixels."""
        return self.likelihood.log_prob(self.outputs(z, batch), batch.pixels.flatten(1))

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """The last canvas: a logit for each of D pixels."""
        last: Tensor = self.canvases(z.flatten(0, 1))[-1].unflatten(0, z.shape[:2])
        return last

    def canvases(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "T N D"]:
        """The logits after each step."""
        found: Tensor = self.hand.decoder(z)
        return found

    def drawing(self, z: Float[Tensor, "N Z"], batch: ImageBatch) -> Drawing:
        """σ(c_t) after each step, and where it was written."""
        decoder = self.hand.decoder
        canvases, states = zip(*decoder.steps(z), strict=True)
        windows = torch.stack([decoder.writer.windows(state) for state in states])
        return Drawing(torch.stack([self.likelihood.mean(canvas) for canvas in canvases]), windows)

    def terms(
        self, q: Distribution, batch: ImageBatch, num_samples: int = 1, *, path_gradient: bool = False
    ) -> ElboTerms:
        """The bound's terms by a single walk of encoder and decoder for each draw.

        With `path_gradient` all is taken at the draws, once these are there, and the KL is their log q − log p.
        """
        if path_gradient:
            return super().terms(q, batch, num_samples, path_gradient=True)
        drawings = cast(Drawings, q)
        noise = drawings.noise(torch.Size([num_samples]))
        found, p = drawings.walk(noise, is_noise=True), self.prior(batch)
        z, log_posterior = found.z.view(noise.shape), found.log_posterior.view(noise.shape[:2])
        log_likelihood = self.likelihood.log_prob(found.canvas.unflatten(0, noise.shape[:2]), batch.pixels.flatten(1))
        per_dimension = found.kl_per_dimension.view(noise.shape).mean(0)
        kl = Kl(per_dimension.sum(1), per_dimension, closed_form=False)
        return ElboTerms.of(z, log_likelihood, log_prob(p, z), log_posterior, kl, p, q)
