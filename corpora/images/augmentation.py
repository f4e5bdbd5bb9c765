"""Training images varied at random: mirrored, cropped, lit otherwise, with a hole in what is given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float64
from pydantic import Field
from torch import Tensor

from corpora.images.images import ImageBatch

Share = Annotated[float, Field(ge=0, le=1)]
SidesShare = Annotated[float, Field(ge=0.1, le=1)]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to each training image, x and y alike, each time anew; images to evaluate on are left alone.

    Photographs by themselves, without a y, are all x.

    - `flip`: the probability with which left and right are exchanged;
    - `smallest_crop`: a crop of a share between this and 1 of either side, drawn for each, anywhere in the image,
      brought back to the image's size: x linearly, y by the nearest pixel, so that it stays binary;
    - `contrast`: x is multiplied by up to 1 ± this and has up to ± this added, a factor and a shift for each channel;
    - `largest_hole`: a square of up to this share of the side, anywhere in x, is set to 0: the noise injection of Sohn
      et al. 2015, section 4.3, where it is 0.4.
    """

    flip: Share = 0.0
    smallest_crop: SidesShare = 1.0
    contrast: Share = 0.0
    largest_hole: Share = 0.0

    def __call__(self, batch: ImageBatch, seed: int | Sequence[int]) -> ImageBatch:
        """A batch varied by `seed` alone. What is given of it, if anything is, must be another image."""
        assert batch.scored is None
        rng = np.random.default_rng(seed)
        corners = self._corners(len(batch), rng)
        x = self._lit(cropped(batch.pixels if batch.context is None else batch.context, corners, "bilinear"), rng)
        self._dig(x, rng)
        if batch.context is None:
            return replace(batch, pixels=x)
        return replace(batch, pixels=cropped(batch.pixels, corners, "nearest"), context=x)

    def _corners(self, num_images: int, rng: np.random.Generator) -> Float64[np.ndarray, "B 2 2"]:
        """The first and the last edge of each crop, down and across, as shares of the sides; last first if mirrored."""
        sides = rng.uniform(self.smallest_crop, 1.0, (num_images, 2))
        first = rng.uniform(0.0, 1.0, (num_images, 2)) * (1.0 - sides)
        corners = np.stack([first, first + sides], 2)
        is_flipped = rng.random(num_images) < self.flip
        corners[is_flipped, 1] = corners[is_flipped, 1, ::-1]
        return corners

    def _lit(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """In another light, and between 0 and 1 as before."""
        factor, shift = torch.from_numpy(rng.uniform(-self.contrast, self.contrast, (2, *images.shape[:2], 1, 1)))
        lit: Tensor = images * (1.0 + factor).float() + shift.float()
        return lit.clamp(0.0, 1.0)

    def _dig(self, images: Tensor, rng: np.random.Generator) -> None:
        """Set the squares to 0, in place."""
        height, width = images.shape[-2:]
        sides = np.rint(min(height, width) * self.largest_hole * rng.random(len(images))).astype(int)
        places = rng.random((len(images), 2))
        for image, side, place in zip(images, sides, places, strict=True):
            top, left = (int(share * (size - side + 1)) for share, size in zip(place, (height, width), strict=True))
            image[:, top : top + side, left : left + side] = 0.0


def cropped(images: Tensor, corners: Float64[np.ndarray, "B 2 2"], mode: str) -> Tensor:
    """A crop of each image, at the size that it had.

    In float64, so that rounding on another machine moves no pixel.
    """
    (top, bottom), (left, right) = torch.from_numpy(corners).permute(1, 2, 0)
    zero = torch.zeros_like(top)
    across = torch.stack([right - left, zero, left + right - 1], 1)
    down = torch.stack([zero, bottom - top, top + bottom - 1], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images.double(), grid, mode=mode, padding_mode="border", align_corners=False).float()
