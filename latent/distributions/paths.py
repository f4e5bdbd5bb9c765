"""Paths between two latent vectors."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def positions(num_points: int) -> list[float]:
    """`num_points` equally spaced positions from 0 to 1, both included. Raises ValueError for fewer than two."""
    if num_points < 2:
        raise ValueError(f"a path needs at least 2 points, its two ends, got {num_points}")
    return [point / (num_points - 1) for point in range(num_points)]


def linear_path(a: Float[Tensor, " Z"], b: Float[Tensor, " Z"], num_points: int) -> Float[Tensor, "P Z"]:
    """(1 − t) a + t b at equally spaced t; the first point is exactly a, the last exactly b.

    Raises ValueError for fewer than two points.
    """
    t = a.new_tensor(positions(num_points))[:, None]
    return (1 - t) * a + t * b


def spherical_path(a: Float[Tensor, " Z"], b: Float[Tensor, " Z"], num_points: int) -> Float[Tensor, "P Z"]:
    r"""Great arc between the directions of a and b, with the norm interpolated linearly between theirs.

    \[z_t = \big((1-t)\|a\| + t\|b\|\big) \left(
      \frac{\sin((1-t)\theta)}{\sin\theta}\frac{a}{\|a\|} + \frac{\sin(t\theta)}{\sin\theta}\frac{b}{\|b\|}\right)\]

    The first point is exactly a, the last exactly b. The path is the linear one where a vector is zero or sin θ is at
    most the root of the machine epsilon: for parallel vectors that is the limit of the arc; for antiparallel ones no
    arc is singled out, and the path goes straight through the origin. Raises ValueError for fewer than two points.

    Reference: Shoemake 1985, "Animating Rotation with Quaternion Curves", section 3.3.
    """
    t = a.new_tensor(positions(num_points))[:, None]
    norm_a, norm_b = a.norm(), b.norm()
    unit_a, unit_b = a / norm_a, b / norm_b
    # Half-angle form: arccos of the dot product loses half the digits near 0 and π.
    angle = 2 * torch.atan2((unit_a - unit_b).norm(), (unit_a + unit_b).norm())
    norm = (1 - t) * norm_a + t * norm_b
    weight_a = ((1 - t) * angle).sin() / angle.sin() * (norm / norm_a)
    weight_b = (t * angle).sin() / angle.sin() * (norm / norm_b)
    has_arc = angle.sin() > torch.finfo(a.dtype).eps ** 0.5  # false for nan, from a zero vector
    return torch.where(has_arc, weight_a, 1 - t) * a + torch.where(has_arc, weight_b, t) * b


PATHS: dict[str, Callable[[Float[Tensor, " Z"], Float[Tensor, " Z"], int], Float[Tensor, "P Z"]]] = {
    "linear": linear_path,
    "slerp": spherical_path,
}
