"""Binarisations, by name: figures made under different ones are not compared."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from corpora.images.images import Images

GreyBinarisation = Literal["dynamic", "threshold", "grey"]  # what can be done to grey levels
Binarisation = Literal["dynamic", "static", "threshold", "grey"]


def binarise(images: Images, binarisation: Binarisation, seed: int | Sequence[int]) -> Images:
    """The images with levels of 0 and 255 alone, except under `grey`, which leaves them as they are.

    - `dynamic` (Salakhutdinov & Murray 2008; Burda et al. 2016): each pixel is on with probability level / 255,
      exactly, drawn by `seed`, one image after the other.
    - `threshold`: a pixel is on where its level is 128 or more.
    - `static`: the images were stored as 0 and 255.
    """
    if binarisation == "dynamic":
        draws = np.random.default_rng(seed).integers(0, 255, images.levels.shape, dtype=np.uint8)  # 0 to 254
        return replace(images, levels=(draws < images.levels) * np.uint8(255))
    if binarisation == "threshold":
        return replace(images, levels=(images.levels >= 128) * np.uint8(255))
    return images
