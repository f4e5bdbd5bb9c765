r"""An image as two layers, background and foreground, of which each pixel shows one:

\[ \log p(x|a) = \sum_i \log\big(\pi_i \prod_c \mathcal N(x_{ic}; f_{ic}, \sigma_{fc}^2)
   + (1 - \pi_i) \prod_c \mathcal N(x_{ic}; b_{ic}, \sigma_{bc}^2)\big) \]

A pixel is of one layer with all its channels, which makes this a mixture and no blending of the layers: the colours of
a boundary are not explained by halves. The channels are turned by an orthonormal matrix, the cosine transform's (for
three: brightness and two differences of colours), which leaves densities as they are and values less correlated.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagevae.form import ImageForm
from imagevae.likelihoods import floored
from latent.distributions import at_least_float32


def cosines(size: int, num_waves: int) -> Float[Tensor, "size K"]:
    """The cosine transform's first waves, each with a mean square of 1: the first is 1 everywhere."""
    basis = scipy.fft.dct(np.eye(size), norm="ortho")[:, :num_waves] * math.sqrt(size)
    return torch.from_numpy(basis).float()


def centred_logits(form: ImageForm, share: float, sharpness: float) -> Float[Tensor, "1 H W"]:
    """Above 0 within an ellipse in the middle that covers this share of the image, `sharpness` in its midst."""
    down, across = (torch.linspace(-1, 1, 2 * size + 1)[1::2] for size in (form.height, form.width))
    squared = down.unsqueeze(1).square() + across.square()
    return sharpness * (1 - squared * math.pi / (4 * share)).unsqueeze(0)


@dataclass(frozen=True)
class Layers:
    """Two layers of P = H·W places, their scales, and the logit that a place shows the foreground."""

    background: Float[Tensor, "*N C P"]
    foreground: Float[Tensor, "*N C P"]
    log_scales: Float[Tensor, "*N 2 C"]  # background, foreground
    mask_logits: Float[Tensor, "*N P"]


class LayeredLikelihood(nn.Module):
    """The mixture above, with σ not less than e⁻⁵; `a` holds both layers, the mask's logits and ln σ, in a row.

    A density: its logarithm may be positive and is not to be compared with that of another likelihood.
    """

    def __init__(self, form: ImageForm) -> None:
        super().__init__()
        self.num_channels, self.num_places = form.channels, form.height * form.width
        turn = torch.from_numpy(scipy.fft.dct(np.eye(form.channels), axis=0, norm="ortho"))
        self.register_buffer("turn", turn.float(), persistent=False)  # rows: the new axes
        self.turn: Tensor

    @property
    def num_outputs(self) -> int:
        """How long `a` is."""
        return (2 * self.num_channels + 1) * self.num_places + 2 * self.num_channels

    def layers(self, a: Float[Tensor, "*N A"]) -> Layers:
        """What `a` says; layers and scales are of the turned channels."""
        layer = self.num_channels * self.num_places
        background, foreground, logits, log_scales = at_least_float32(a).split(
            [layer, layer, self.num_places, 2 * self.num_channels], -1
        )
        places = (self.num_channels, self.num_places)
        return Layers(
            background.unflatten(-1, places),
            foreground.unflatten(-1, places),
            floored(log_scales).unflatten(-1, (2, self.num_channels)),
            logits,
        )

    def log_prob(self, a: Float[Tensor, "S B A"], x: Float[Tensor, "B D"]) -> Float[Tensor, "S B"]:
        """log p(x|a) in nats, summed over the D values."""
        of_background, of_foreground = self._of_places(self.layers(a), x)
        return torch.logaddexp(of_background, of_foreground).sum(-1)

    def assigned(self, a: Float[Tensor, "S B A"], x: Float[Tensor, "B D"]) -> Float[Tensor, "S B P"]:
        """The probability that each place of x shows the foreground, p(c|x, a)."""
        of_background, of_foreground = self._of_places(self.layers(a), x)
        return torch.sigmoid(of_foreground - of_background)

    def _of_places(
        self, said: Layers, x: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "S B P"], Float[Tensor, "S B P"]]:
        """log (1 − π) p(x|background) and log π p(x|foreground)."""
        turned = self.turn.to(said.background.dtype) @ x.unflatten(-1, (self.num_channels, -1)).to(said.background)
        found = []
        layers = (said.background, -said.mask_logits), (said.foreground, said.mask_logits)
        for (location, logits), log_scale in zip(layers, said.log_scales.unbind(-2), strict=True):
            squared = ((turned - location) * torch.exp(-log_scale).unsqueeze(-1)).square().sum(-2)
            constant = log_scale.sum(-1, keepdim=True) + 0.5 * self.num_channels * math.log(2 * math.pi)
            found.append(F.logsigmoid(logits) - 0.5 * squared - constant)
        return found[0], found[1]

    def pictures(self, a: Float[Tensor, "N A"]) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Background and foreground by themselves."""
        said = self.layers(a)
        back = self.turn.T.to(said.background.dtype)
        return (back @ said.background).flatten(1), (back @ said.foreground).flatten(1)

    def mean(self, a: Float[Tensor, "N A"]) -> Float[Tensor, "N D"]:
        """The expected value of each pixel: π f + (1 − π) b."""
        background, foreground = self.pictures(a)
        mask = torch.sigmoid(self.layers(a).mask_logits).repeat(1, self.num_channels)
        return torch.lerp(background, foreground, mask)

    def sample(self, a: Float[Tensor, "N A"]) -> Float[Tensor, "N D"]:
        """A draw of each pixel, its layer first."""
        said = self.layers(a)
        shown = torch.bernoulli(torch.sigmoid(said.mask_logits)).bool().unsqueeze(1)
        background, foreground = said.log_scales.exp().unsqueeze(-1).unbind(1)
        location = torch.where(shown, said.foreground, said.background)
        drawn = location + torch.where(shown, foreground, background) * torch.randn_like(location)
        return (self.turn.T.to(drawn.dtype) @ drawn).flatten(1)
