"""Fixed points that stand for the uniform distribution on a cube, for means that must be the same at each call."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

NUM_POINTS = 64  # over which the moments of a posterior without closed forms are averaged; even


def symmetric_points(num_points: int, like: Float[Tensor, "*B Z"]) -> Iterator[Float[Tensor, " Z"]]:
    """An even number of points between 0 and 1, Sobol's with their mirror images, of the type and device of `like`.

    The mean over them of a function that is odd about the centre is exact.
    """
    half = torch.quasirandom.SobolEngine(like.shape[-1], scramble=True, seed=0).draw(num_points // 2)
    smallest = torch.finfo(half.dtype).eps
    return iter(torch.cat([half, 1 - half]).clamp(smallest, 1 - smallest).to(like))


def moments_of_mixture(
    parts: Iterable[tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]],
) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
    """Mean and variance of an equal mixture, from those of its components, of which one at a time is held."""
    number = 0
    total = square = within = torch.zeros(())
    for mean, variance in parts:
        number += 1
        total, square, within = total + mean, square + mean.square(), within + variance
    mean = total / number
    return mean, (within + square) / number - mean.square()
