"""Maps of latent means: the library's principal components, the right colours, and an end to every degenerate case."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from synthetic import around

from latent.reporting.comparison_plots import draw_latent_map, draw_rate_distortion, map_colours
from latent.reporting.latent_map import latent_map


def test_components_are_those_of_scikit_learn():
    means = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7) + 3
    found, known = latent_map(means, np.arange(200), "tokens"), PCA(2).fit(means.double())
    points = known.transform(means.double())
    assert np.abs(found.points) == pytest.approx(np.abs(points), abs=1e-6)
    assert found.explained == pytest.approx(tuple(known.explained_variance_ratio_))
    origin = known.transform(np.zeros((1, 6)))[0]
    assert np.abs(found.origin) == pytest.approx(np.abs(origin))
    turned = latent_map(means.flip(0), np.arange(200), "tokens")
    assert turned.points[::-1] == pytest.approx(found.points, abs=1e-6)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (1, 1), (2, 4), (50, 1)])
def test_few_points_and_dimensions_have_a_map(shape):
    found = latent_map(torch.randn(shape), np.full(shape[0], 3), "tokens")
    assert found.points.shape == (shape[0], 2)
    assert np.isfinite(found.points).all()
    assert "<svg" in draw_latent_map(found, 0, 2.0)


def test_a_collapsed_posterior_has_one_point():
    found = latent_map(torch.zeros(30, 4), np.arange(30), "tokens")
    assert not found.points.any()
    assert found.explained == (0.0, 0.0)


def test_means_that_are_not_finite_are_left_out():
    means = torch.randn(10, 3)
    means[2, 1], means[5] = math.nan, math.inf
    found = latent_map(means, np.arange(10), "tokens")
    assert len(found.points) == len(found.numbers) == 8
    assert np.isfinite(found.points).all()


def test_lengths_are_binned_by_their_quantiles():
    found = latent_map(torch.randn(8, 2), np.array([3, 3, 5, 5, 8, 8, 9, 30]), "tokens")
    assert found.is_ordered
    assert found.categories == ("3 tokens", "4–5 tokens", "6–8 tokens", "9–30 tokens")
    assert found.numbers.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert latent_map(torch.randn(5, 2), np.full(5, 7), "tokens").categories == ("7 tokens",)


def test_labels_are_coloured_by_frequency_and_the_rare_ones_share_a_colour():
    labels = np.repeat(np.arange(12), [1, 12, 2, 11, 3, 10, 4, 9, 5, 8, 6, 7])
    found = latent_map(
        torch.randn(len(labels), 2), np.ones(len(labels), np.int64), "tokens", labels, list("abcdefghijkl")
    )
    assert not found.is_ordered
    assert "".join(found.categories) == "bdfhjlkigeca"
    assert [found.categories[number] for number in found.numbers] == [list("abcdefghijkl")[label] for label in labels]
    colours = map_colours(found)
    assert list(colours) == [*"bdfhjlkige", "other"]
    assert len(set(colours.values())) == 11


def test_a_map_of_thousands_of_points_is_small():
    found = latent_map(torch.randn(2000, 8), np.arange(2000), "tokens")
    assert len(draw_latent_map(found, 0, 5.0)) < 300_000


def test_a_plane_without_figures_says_so():
    assert "no finite figures" in draw_rate_distortion([(around(math.nan), around(1.0))], [False])
    assert "no finite figures" not in draw_rate_distortion([(around(0.0), around(1.0))], [True])
