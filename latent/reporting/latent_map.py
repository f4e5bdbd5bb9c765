"""A run's latent means in two dimensions: their first two principal components, coloured by label or by a number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

NUM_POINTS = 2000  # at most
NUM_BINS = 4  # of numbers, about equally many examples in each


@dataclass(frozen=True, eq=False)
class LatentMap:
    """N points, the number of each one's category, and the categories' names.

    `explained` is the share of the variance along either axis, `origin` where z = 0 lies. `is_ordered` says that the
    categories go from little to much.
    """

    points: Float[np.ndarray, "N 2"]
    explained: tuple[float, float]
    origin: tuple[float, float]
    numbers: Int64[np.ndarray, " N"]
    categories: tuple[str, ...]
    is_ordered: bool


def latent_map(
    means: Float[Tensor, "N Z"],
    sizes: Int64[np.ndarray, " N"],
    unit: str,
    labels: Int64[np.ndarray, " N"] | None = None,
    label_names: Sequence[str] = (),
) -> LatentMap:
    """Project the means on the two directions in which they vary most, by a singular value decomposition.

    Colours stand for the labels, the most frequent first, or where there are none for the `sizes`, such as lengths in
    the unit tokens. Means that are not finite are left out. Each component is turned so that its largest loading is
    positive: the same means give the same map.
    """
    finite = means.isfinite().all(1).cpu()
    kept = finite.numpy()
    means = means.cpu().double()[finite]
    if labels is None:
        numbers, categories = _bins(sizes[kept], unit)
    else:
        numbers, categories = _by_frequency(labels[kept], label_names)
    if len(means) == 0:
        return LatentMap(np.zeros((0, 2)), (0.0, 0.0), (0.0, 0.0), numbers, categories, labels is None)
    centre = means.mean(0)
    _, spreads, directions = torch.linalg.svd(means - centre, full_matrices=False)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * torch.where(largest < 0, -1.0, 1.0)
    axes = torch.zeros(2, means.shape[1], dtype=torch.float64)  # a second one of zeros for a single dimension
    axes[: len(directions)] = directions[:2]
    shares = torch.zeros(2, dtype=torch.float64)
    shares[: len(spreads)] = (spreads.square() / spreads.square().sum().clamp(min=1e-300))[:2]
    origin = (-centre @ axes.T).tolist()
    return LatentMap(
        points=((means - centre) @ axes.T).numpy(),
        explained=(float(shares[0]), float(shares[1])),
        origin=(origin[0], origin[1]),
        numbers=numbers,
        categories=categories,
        is_ordered=labels is None,
    )


def _bins(sizes: Int64[np.ndarray, " N"], unit: str) -> tuple[Int64[np.ndarray, " N"], tuple[str, ...]]:
    """About equally full bins between the quantiles of the sizes, and their names."""
    if len(sizes) == 0:
        return sizes, ()
    upper = np.unique(np.quantile(sizes, np.arange(1, NUM_BINS + 1) / NUM_BINS, method="lower"))
    numbers = np.searchsorted(upper, sizes)
    lower = [sizes.min(), *(upper[:-1] + 1)]
    names = (f"{a}–{b} {unit}" if a < b else f"{b} {unit}" for a, b in zip(lower, upper, strict=True))
    return numbers.astype(np.int64), tuple(names)


def _by_frequency(
    labels: Int64[np.ndarray, " N"], names: Sequence[str]
) -> tuple[Int64[np.ndarray, " N"], tuple[str, ...]]:
    """Labels renumbered, the most frequent first."""
    found, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.argsort(order, kind="stable")
    return rank[places].astype(np.int64), tuple(names[label] for label in found[order])
