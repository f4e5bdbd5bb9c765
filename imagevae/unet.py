"""Networks of structured prediction for photographs: U-Nets whose latent variable is a map.

The baseline is a U-Net. Its feature maps of x at every scale are what the generation network adds a map of z to, at the
coarsest of them or at each, and leads up to the size of the image. References: Ronneberger et al. 2015, "U-Net"; Kohl
et al. 2018, "A Probabilistic U-Net for Segmentation of Ambiguous Images", who add z at the finest scale; the size of
the map, 8×8×32 for 128×128 pixels, is Sohn et al. 2015's, "Learning Structured Output Representation using Deep
Conditional Generative Models".
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from imagevae.form import ImageForm
from imagevae.networks import Prediction
from imagevae.scales import CoarserOutputs
from latent.distributions import at_least_float32, diagonal_normal

MOST_GROUPS = 8  # of channels that are normalised together


@dataclass(frozen=True, kw_only=True)
class UnetConfig:
    """Feature maps at ½, ¼, … of the image's height and width, with so many channels each; z is a map like the last.

    The generation network adds z, by a 1×1 convolution of it, to the coarsest map of x, or to the map at every scale.
    """

    kind: Literal["unet"] = "unet"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (24, 48, 96, 128)
    latents_at: Literal["coarsest", "every"] = "coarsest"

    def predictor(self, form: ImageForm) -> "UnetPredictor":
        """From x to logits, with its feature maps."""
        return UnetPredictor(form, self.channels)

    def normal(self, form: ImageForm, latent_size: int) -> "UnetNormal":
        """From an image to a normal for every place of the coarsest map."""
        return UnetNormal(form, self.channels, self._latent_channels(form, latent_size))

    def generator(self, form: ImageForm, latent_size: int, coarser_scales: int) -> "UnetGenerator":
        """From z and the predictor's feature maps to logits, those of coarser scales behind the image's own."""
        return UnetGenerator(
            form,
            self.channels,
            self._latent_channels(form, latent_size),
            coarser_scales,
            at_every_scale=self.latents_at == "every",
        )

    def _latent_channels(self, form: ImageForm, latent_size: int) -> int:
        """How many values z has at a place. Raises ValueError where it is no map."""
        height, width = coarsest(form, self.channels)
        if latent_size % (height * width) != 0:
            raise ValueError(
                f"model.latent_size: a map of z has {height}×{width} places, so that {latent_size} values are none; "
                f"set a multiple of {height * width}, such as {32 * height * width}"
            )
        return latent_size // (height * width)


def coarsest(form: ImageForm, channels: Sequence[int]) -> tuple[int, int]:
    """Height and width of the last map. Raises ValueError where the image is too small to be halved so often."""
    factor = 2 ** len(channels)
    if min(form.height, form.width) < factor:
        raise ValueError(
            f"model.network.channels: an image of {form.height}×{form.width} cannot be halved {len(channels)} times; "
            f"give at most {int(math.log2(min(form.height, form.width)))} numbers"
        )
    return math.ceil(form.height / factor), math.ceil(form.width / factor)


class Convolution(nn.Sequential):
    """A convolution, normalised in groups of channels (Wu & He 2018, "Group Normalization"), then x σ(x)."""

    def __init__(self, num_before: int, num_after: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(num_before, num_after, size, stride=stride, padding=size // 2, bias=False),
            nn.GroupNorm(math.gcd(MOST_GROUPS, num_after), num_after),
            nn.SiLU(),
        )


class Residual(nn.Module):
    """A map and a convolution of it."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.convolution = Convolution(num_channels, num_channels)

    def forward(self, features: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """As many channels as before."""
        found: Tensor = features + self.convolution(features)
        return found


class Downwards(nn.Module):
    """An image's feature maps, the finest first, each half as high and wide as the one before."""

    def __init__(self, num_inputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        sizes = itertools.pairwise((num_inputs, *channels))
        self.levels = nn.ModuleList(
            nn.Sequential(Convolution(before, after, 5 if level == 0 else 3, stride=2), Residual(after))
            for level, (before, after) in enumerate(sizes)
        )

    def forward(self, images: Float[Tensor, "N C H W"]) -> list[Tensor]:
        """A map for each level."""
        found = [images]
        for level in self.levels:
            found.append(level(found[-1]))
        return found[1:]


class Upwards(nn.Module):
    """From the coarsest map to the finest: at each level what comes from below is added to another map."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        coarse_first = tuple(reversed(channels))
        self.first = Residual(coarse_first[0])
        self.narrowed = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in itertools.pairwise(coarse_first))
        self.levels = nn.ModuleList(Residual(after) for after in coarse_first[1:])

    def forward(
        self, coarsest: Float[Tensor, "N C h w"], others: Sequence[Tensor], drawn: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """The maps from the coarsest to the finest; `others`, of B images where N = S·B, are in that order too.

        `drawn` is added to what comes from below: a map as small as the coarsest for each of the finer levels, if any.
        """
        found = [self.first(coarsest)]
        levels = zip(self.narrowed, self.levels, others, strict=True)
        for (narrowed, level, other), beside in itertools.zip_longest(levels, drawn):
            wider = F.interpolate(narrowed(found[-1]), size=other.shape[-2:], mode="nearest")
            if beside is not None:
                wider = wider + F.interpolate(beside, size=other.shape[-2:], mode="nearest")
            found.append(level(plus(wider, other)))
        return found


def plus(drawn: Float[Tensor, "N C H W"], of_image: Float[Tensor, "B C H W"]) -> Float[Tensor, "N C H W"]:
    """The maps of S draws for each of B images, N = S·B, and what all draws of an image share."""
    num_draws = len(drawn) // max(1, len(of_image))
    found: Tensor = (drawn.unflatten(0, (num_draws, len(of_image))) + of_image).flatten(0, 1)
    return found


class Output(nn.Module):
    """From maps of half the image's size to its values: four for each place, which are laid out as a square."""

    def __init__(self, form: ImageForm, num_channels: int) -> None:
        super().__init__()
        self.form = form
        self.convolution = nn.Conv2d(num_channels, 4 * form.channels, 1, bias=False)

    def forward(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D"]:
        """A value for each of D = C·H·W, in a row."""
        images = F.pixel_shuffle(self.convolution(features), 2)
        return images[..., : self.form.height, : self.form.width].flatten(1)


class UnetPredictor(nn.Module):
    """A U-Net with a logit for every pixel, each with a bias of its own: some places are foreground more often."""

    def __init__(self, form: ImageForm, channels: Sequence[int]) -> None:
        super().__init__()
        coarsest(form, channels)
        self.downwards = Downwards(form.given.channels, channels)
        self.upwards = Upwards(channels)
        self.output = Output(form, channels[0])
        self.bias = nn.Parameter(torch.zeros(form.num_pixels))

    def start_at(self, logits: Float[Tensor, " D"]) -> None:
        """Begin with these, whatever x is, beside what the first weights make of x."""
        with torch.no_grad():
            self.bias.copy_(logits)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Prediction:
        """Logits, and the maps of x on the way up, the coarsest first."""
        *finer, last = self.downwards(images.to(self.bias.dtype))
        maps = self.upwards(last, list(reversed(finer)))
        return Prediction(self.output(maps[-1]) + self.bias, tuple(maps))


class UnetNormal(nn.Module):
    """A diagonal normal whose dimensions are the values of a map, row by row within each channel."""

    def __init__(self, form: ImageForm, channels: Sequence[int], latent_channels: int) -> None:
        super().__init__()
        self.downwards = Downwards(form.joined.channels, channels)
        self.mean = nn.Conv2d(channels[-1], latent_channels, 1)
        self.log_variance = nn.Conv2d(channels[-1], latent_channels, 1)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Distribution:
        """Batch shape B, event shape Z."""
        last = self.downwards(images.to(self.mean.weight.dtype))[-1]
        log_variance = at_least_float32(self.log_variance(last).flatten(1))
        return diagonal_normal(at_least_float32(self.mean(last).flatten(1)), (0.5 * log_variance).exp())


class UnetGenerator(nn.Module):
    """From a map of z, added to the coarsest map of x or to all of them, up to the image, by way of all maps of x."""

    def __init__(
        self,
        form: ImageForm,
        channels: Sequence[int],
        latent_channels: int,
        coarser_scales: int,
        *,
        at_every_scale: bool,
    ) -> None:
        super().__init__()
        self.unflatten = nn.Unflatten(1, (latent_channels, *coarsest(form, channels)))
        self.embedding = nn.Conv2d(latent_channels, channels[-1], 1)
        self.upwards = Upwards(channels)
        self.output = Output(form, channels[0])
        # last: the others are drawn as without them
        self.coarser = CoarserOutputs(form, channels, coarser_scales)
        finer = channels[-2::-1] if at_every_scale else ()
        self.embeddings = nn.ModuleList(nn.Conv2d(latent_channels, each, 1) for each in finer)

    def forward(self, z: Float[Tensor, "N Z"], *maps: Tensor) -> Float[Tensor, "N A"]:
        """Logits to be added to the predictor's, for S draws of each of the B images of the maps, N = S·B.

        A is D, of the image, and behind it the logits of the coarser scales, the finest first.
        """
        of_z = self.unflatten(z.to(self.embedding.weight.dtype))
        drawn = [embedding(of_z) for embedding in self.embeddings]
        found = self.upwards(plus(self.embedding(of_z), maps[0]), maps[1:], drawn)
        return torch.cat([self.output(found[-1]), *self.coarser(found[::-1])], 1)
