"""DRAW's networks, and the posterior over all that it draws, one step after another (Gregor et al. 2015)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from imagevae.attention import Attention, WholeImage
from imagevae.form import ImageForm
from imagevae.networks import initialised
from latent.distributions import (
    Change,
    NormalHead,
    change_rows,
    concatenate,
    detach,
    device_of,
    diagonal_normal,
    log_prob,
    pairwise_log_prob,
    pairwise_most,
)
from latent.distributions.held import call
from latent.distributions.points import NUM_POINTS, moments_of_mixture, symmetric_points

MOST_EXAMPLES = 1_000  # of which each one's z is walked with the image of every other
ROWS_AT_ONCE = 4096  # pairs of an image and another's z
State = tuple[Tensor, Tensor]  # h and the memory of an LSTM, N×H each


class Encoder(nn.Module):
    """From an image, what the canvas lacks of it and the decoder's state to q(z_t|x, z_<t)."""

    def __init__(self, form: ImageForm, latent_size: int, hidden_size: int, read_size: int | None) -> None:
        super().__init__()
        self.reader = WholeImage(form) if read_size is None else Attention(form, hidden_size, read_size)
        self.cell = nn.LSTMCell(2 * self.reader.num_values + hidden_size, hidden_size)
        self.head = NormalHead(hidden_size, latent_size)

    def forward(
        self,
        pixels: Float[Tensor, "N C H W"],
        canvas: Float[Tensor, "N D"],
        drawing: Float[Tensor, "N F"],
        state: State,
    ) -> tuple[Distribution, State]:
        r"""\(\hat x_t = x - \sigma(c_{t-1})\), \(r_t = \mathrm{read}(x, \hat x_t, h^{dec}_{t-1})\), and a step."""
        lacking = pixels - torch.sigmoid(canvas).view_as(pixels)
        window = self.reader.read(drawing, torch.cat([pixels, lacking], 1))
        h, memory = self.cell(torch.cat([window, drawing], 1), state)
        q: Distribution = self.head(h)
        return q, (h, memory)


class Decoder(nn.Module):
    r"""From z_t to what is added to the canvas: \(c_t = c_{t-1} + \mathrm{write}(h^{dec}_t)\)."""

    def __init__(self, form: ImageForm, latent_size: int, hidden_size: int, write_size: int | None) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.cell = nn.LSTMCell(latent_size, hidden_size)
        self.writer = WholeImage(form) if write_size is None else Attention(form, hidden_size, write_size)
        self.output = initialised(nn.Linear(hidden_size, self.writer.num_values))
        self.start = nn.Parameter(torch.zeros(form.num_pixels))  # the canvas before the first step

    def step(
        self, z: Float[Tensor, "N Z"], canvas: Float[Tensor, "N D"], state: State
    ) -> tuple[Float[Tensor, "N D"], State]:
        """The canvas after a step."""
        h, memory = self.cell(z, state)
        return canvas + self.writer.write(h, self.output(h)), (h, memory)

    def forward(self, z: Float[Tensor, "N TZ"]) -> Float[Tensor, "T N D"]:
        """The canvases after each of the T steps."""
        return torch.stack([canvas for canvas, _ in self.steps(z)])

    def steps(self, z: Float[Tensor, "N TZ"]) -> Iterator[tuple[Float[Tensor, "N D"], Float[Tensor, "N F"]]]:
        """The canvas after each step, and the h of which the step's writing was made."""
        canvas, state = self.start.expand(len(z), -1), rest(self.cell, len(z))
        for one in z.split(self.latent_size, 1):
            canvas, state = self.step(one, canvas, state)
            yield canvas, state[0]


def rest(cell: nn.LSTMCell, size: int) -> State:
    """An LSTM's state before the first step: zeros."""
    zeros = cell.weight_hh.new_zeros(size, cell.hidden_size)
    return zeros, zeros


@dataclass(frozen=True)
class Walk:
    """N drawings: their z, the mean and scale that q gave each step, in a row, and the canvas at the end."""

    z: Float[Tensor, "N Z"]
    mean: Float[Tensor, "N Z"]
    scale: Float[Tensor, "N Z"]
    canvas: Float[Tensor, "N D"]

    @property
    def log_posterior(self) -> Float[Tensor, " N"]:
        """Σ_t log q(z_t|x, z_<t) in nats."""
        return log_prob(diagonal_normal(self.mean, self.scale), self.z)

    @property
    def kl_per_dimension(self) -> Float[Tensor, "N Z"]:
        r"""\(\mathrm{KL}(q(z_t|x, z_{<t}) \| \mathcal N(0, 1)) = \tfrac12 (\mu^2 + \sigma^2 - \ln \sigma^2 - 1)\)."""
        return 0.5 * (self.mean.square() + self.scale.square() - 1) - self.scale.log()


class Hand(nn.Module):
    """Encoder and decoder together: what draws a given image."""

    def __init__(self, encoder: Encoder, decoder: Decoder, num_steps: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.num_steps = num_steps

    def forward(self, pixels: Float[Tensor, "N C H W"], given: Float[Tensor, "N Z"], *, is_noise: bool) -> Walk:
        """Walk through the steps, at the z given, or where it `is_noise` at μ_t + σ_t ε_t."""
        canvas, drawing = self.decoder.start.expand(len(pixels), -1), rest(self.decoder.cell, len(pixels))
        reading = rest(self.encoder.cell, len(pixels))
        pixels = pixels.to(canvas.dtype)
        steps, means, scales = [], [], []
        for one in given.chunk(self.num_steps, 1):
            q, reading = self.encoder(pixels, canvas, drawing[0], reading)
            z = q.mean + q.stddev * one if is_noise else one
            canvas, drawing = self.decoder.step(z.to(canvas.dtype), canvas, drawing)
            steps.append(z)
            means.append(q.mean)
            scales.append(q.stddev)
        return Walk(torch.cat(steps, 1), torch.cat(means, 1), torch.cat(scales, 1), canvas)


class Drawings(Distribution):
    r"""\(q(z|x) = \prod_t q(z_t \mid x, z_{<t})\) as one distribution of the vector [z_1, …, z_T], for B images.

    Where it is made without gradients, or `is_frozen`, the networks' weights get none from its density, while the path
    through z stays. Its mean and variance are those over the same 64 points of the noise for every image, Sobol's with
    their mirror images, as a `Hierarchy`'s are. Its density at another image's z needs a walk of its own, so that the
    mutual information of N images costs N² walks.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name for what it checks of the parameters
    has_rsample = True

    def __init__(
        self, hand: Hand, pixels: Float[Tensor, "B C H W"], latent_size: int, *, is_frozen: bool = False
    ) -> None:
        self.hand = hand
        self.pixels = pixels
        self.is_frozen = is_frozen or not torch.is_grad_enabled()
        super().__init__(torch.Size([len(pixels)]), torch.Size([latent_size]), validate_args=False)

    def over(self, pixels: Float[Tensor, "M C H W"], *, is_frozen: bool) -> "Drawings":
        """The same of other images."""
        return Drawings(self.hand, pixels, self.event_shape[0], is_frozen=is_frozen)

    def walk(self, given: Float[Tensor, "*S B Z"], *, is_noise: bool) -> Walk:
        """S·B drawings, at the z given or by the noise given."""
        num_repeats = given[..., 0, 0].numel() if len(self.pixels) else 0
        rows = self.pixels.repeat(max(1, num_repeats), 1, 1, 1)
        found: Walk = call(self.hand, rows, given.flatten(0, -2), is_frozen=self.is_frozen, is_noise=is_noise)
        return found

    def noise(self, shape: torch.Size) -> Float[Tensor, "*S B Z"]:
        """Standard normal draws for so many draws of z."""
        return torch.randn(*shape, *self.batch_shape, *self.event_shape, dtype=self.dtype, device=self.pixels.device)

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.hand.decoder.start.dtype

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of z, with gradients through all steps."""
        noise = self.noise(torch.Size(sample_shape))
        return self.walk(noise, is_noise=True).z.view(noise.shape)

    def log_prob(self, value: Float[Tensor, "*S B Z"]) -> Float[Tensor, "*S B"]:
        """Σ_t log q(z_t|x, z_<t) in nats."""
        return self.walk(value, is_noise=False).log_posterior.view(value.shape[:-1])

    @property
    def mean(self) -> Float[Tensor, "B Z"]:
        """E[z_t|x] = E[μ_t]."""
        return self._moments[0]

    @property
    def variance(self) -> Float[Tensor, "B Z"]:
        """Var[z_t|x] = E[σ_t²] + Var[μ_t]."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """A point at a time, so that a whole split fits into the memory."""
        like = self.pixels.new_empty(self.event_shape, dtype=self.dtype)
        noises = (torch.special.ndtri(point) for point in symmetric_points(NUM_POINTS, like))
        walks = (self.walk(noise.expand(len(self.pixels), -1), is_noise=True) for noise in noises)
        return moments_of_mixture((walk.mean, walk.scale.square()) for walk in walks)


@concatenate.register
def _(first: Drawings, *others: Drawings) -> Distribution:
    assert all(q.hand is first.hand for q in others)
    return first.over(torch.cat([first.pixels, *(q.pixels for q in others)]), is_frozen=first.is_frozen)


@change_rows.register
def _(q: Drawings, change: Change) -> Distribution:
    return q.over(change(q.pixels), is_frozen=q.is_frozen)


@device_of.register
def _(q: Drawings) -> torch.device:
    return q.pixels.device


@detach.register
def _(q: Drawings) -> Distribution:
    return q.over(q.pixels, is_frozen=True)


@pairwise_most.register
def _(q: Drawings) -> int:
    return MOST_EXAMPLES


@pairwise_log_prob.register
def _(q: Drawings, z: Float[Tensor, "M Z"]) -> Float[Tensor, "M N"]:
    num_images = len(q.pixels)
    parts = z.split(max(1, ROWS_AT_ONCE // num_images))
    return torch.cat([q.log_prob(part.unsqueeze(1).expand(-1, num_images, -1)).double() for part in parts])
