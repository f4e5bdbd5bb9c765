"""Latent paths against their definitions in float64 and NumPy."""

import math

import numpy as np
import pytest
import torch

from latent.distributions.paths import PATHS, linear_path, positions, spherical_path
from textvae.generation import mark_repeats

every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())


def vectors(seed: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a.to(dtype), (3 * b).to(dtype)


def test_positions_are_equally_spaced_with_both_ends():
    assert positions(2) == [0.0, 1.0]
    assert positions(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert positions(8)[-1] == 1.0


@pytest.mark.parametrize("num_points", [1, 0, -2])
def test_a_path_needs_two_points(num_points):
    with pytest.raises(ValueError, match=f"at least 2 points, its two ends, got {num_points}"):
        positions(num_points)
    for path in PATHS.values():
        with pytest.raises(ValueError, match="at least 2 points"):
            path(*vectors(0), num_points)


@every_path
@pytest.mark.parametrize("seed", range(5))
def test_the_ends_are_exact(path, seed):
    a, b = vectors(seed)
    points = path(a, b, 7)
    assert points.shape == (7, 8)
    assert points.dtype == a.dtype
    assert torch.equal(points[0], a)
    assert torch.equal(points[-1], b)


@every_path
def test_the_way_back_is_the_way_reversed(path):
    a, b = vectors(1, torch.float64)
    torch.testing.assert_close(path(a, b, 6).flip(0), path(b, a, 6))


def test_linear_path_against_numpy():
    a, b = vectors(2, torch.float64)
    np.testing.assert_allclose(linear_path(a, b, 9).numpy(), np.linspace(a.numpy(), b.numpy(), 9), rtol=1e-12)


def test_spherical_path_turns_and_grows_evenly():
    a, b = vectors(3, torch.float64)
    points = spherical_path(a, b, 7)
    norms = points.norm(dim=1)
    torch.testing.assert_close(norms, torch.linspace(float(a.norm()), float(b.norm()), 7, dtype=torch.float64))
    units = points / norms[:, None]
    angles = (units[1:] * units[:-1]).sum(1).arccos()
    whole = torch.dot(units[0], units[-1]).arccos()
    torch.testing.assert_close(angles, (whole / 6).expand(6))
    assert whole > 0.5


def test_spherical_path_in_the_plane():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    expected = [[2 * math.cos(angle), 2 * math.sin(angle)] for angle in np.linspace(0, math.pi / 2, 5)]
    torch.testing.assert_close(spherical_path(a, b, 5), torch.tensor(expected))


@pytest.mark.parametrize("scale", [1.0, 2.5, -1.0, -0.5, 0.0], ids=lambda scale: f"b={scale}a")
def test_spherical_path_is_linear_where_no_arc_is_singled_out(scale):
    a = vectors(4)[0]
    b = scale * a
    assert torch.equal(spherical_path(a, b, 5), linear_path(a, b, 5))
    assert torch.equal(spherical_path(b, a, 5), linear_path(b, a, 5))
    zero = torch.zeros_like(a)
    assert torch.equal(spherical_path(zero, zero, 3), torch.zeros(3, 8))


@pytest.mark.parametrize("angle", [1e-6, 1e-4, 1e-3, 1e-2, 3.0, math.pi - 2e-3])
def test_spherical_path_is_accurate_for_nearly_parallel_vectors(angle):
    a = torch.tensor([1.0, 0.0])
    b = torch.tensor([math.cos(angle), math.sin(angle)])
    expected = [[math.cos(t * angle), math.sin(t * angle)] for t in positions(9)]
    # Near π the directions between a and b hang on the last digits of b.
    tolerance = 2e-7 * max(1.0, math.tan(angle / 2))
    torch.testing.assert_close(spherical_path(a, b, 9), torch.tensor(expected), rtol=0, atol=tolerance)


def test_mark_repeats():
    assert mark_repeats([]) == []
    assert mark_repeats(["a"]) == [False]
    assert mark_repeats(["a", "a", "b", "a", "a", "a"]) == [False, True, False, False, True, True]
