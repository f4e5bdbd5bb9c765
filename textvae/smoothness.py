"""Are the sentences between two sentences between them? Interpolations measured with edit distances."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent.distributions.paths import PATHS
from latent.measures import Estimate, mean_estimate, ratio_estimate, share_estimate
from textvae.decoding import Greedy
from textvae.edit_distance import edit_distances, normalised_edit_distances, split_words
from textvae.generation import decode_texts, mark_repeats
from textvae.session import Trained

DIFFERENT_ENDS = 0.5  # the least share of paths between different sentences for a path's shape to mean anything


@dataclass(frozen=True)
class Smoothness:
    """The shape of decoded paths of P points, over R of them.

    `path_length` is how much farther it is through all points than from end to end: 1 for a straight path, P − 1 for
    unrelated sentences. `largest_step` is the share of the way that the longest of the P − 1 steps takes: 1 / (P − 1)
    for even steps, 1 for one jump. Both are None, undefined rather than smooth, where the ends of hardly any path
    differ: a decoder that ignores z takes no step at all. Then `different_ends` and `distinct` tell so.
    """

    num_paths: int
    num_points: int
    different_ends: Estimate  # the share of paths whose two ends are different sentences
    distinct: Estimate  # different sentences on a path, over P
    repeated_neighbours: Estimate  # the share of the steps that change nothing
    neighbour_distance: Estimate  # normalised edit distances, 0 to 1
    end_distance: Estimate
    path_length: Estimate | None
    largest_step: Estimate | None


def measure_smoothness(
    trained: Trained,
    means: Float[Tensor, "N Z"],
    *,
    num_paths: int = 200,
    num_points: int = 7,
    path: str = "linear",
    seed: int = 0,
) -> Smoothness:
    """Decode paths between the posterior means of random pairs of sentences, greedily, and measure their shape.

    No sentence is in two pairs, so that paths are independent: there are at most N // 2. Raises ValueError for fewer
    than two sentences and for paths of fewer than two points.
    """
    if len(means) < 2:
        raise ValueError(f"a path needs two sentences; the split has {len(means)}")
    order = torch.randperm(len(means), generator=torch.Generator().manual_seed(seed)).to(means.device)
    pairs = means[order[: 2 * min(num_paths, len(means) // 2)]].view(-1, 2, means.shape[1])
    z = torch.cat([PATHS[path](first, last, num_points) for first, last in pairs])
    texts = decode_texts(trained, z, Greedy(), seed)
    paths = [texts[start : start + num_points] for start in range(0, len(texts), num_points)]
    return path_smoothness(paths, is_tokenised=trained.recipe.corpus.tokenizer.kind == "word")


def path_smoothness(paths: Sequence[Sequence[str]], *, is_tokenised: bool) -> Smoothness:
    """Measure decoded paths of P ≥ 2 sentences each, ends included. All intervals are over paths."""
    num_paths, num_points = len(paths), len(paths[0])
    words = [split_words(path, is_tokenised=is_tokenised) for path in paths]
    befores = [sentence for path in words for sentence in path[:-1]]
    afters = [sentence for path in words for sentence in path[1:]]
    firsts, lasts = [path[0] for path in words], [path[-1] for path in words]
    steps = edit_distances(befores, afters).view(num_paths, -1).double()
    between_ends = edit_distances(firsts, lasts).double()
    repeats = torch.tensor([mark_repeats(list(path))[1:] for path in paths], dtype=torch.float64)
    distinct = torch.tensor([len(set(path)) / num_points for path in paths], dtype=torch.float64)
    different_ends = share_estimate(between_ends > 0)
    is_defined = different_ends.low > DIFFERENT_ENDS
    moving = steps.sum(1) > 0
    return Smoothness(
        num_paths=num_paths,
        num_points=num_points,
        different_ends=different_ends,
        distinct=mean_estimate(distinct),
        repeated_neighbours=mean_estimate(repeats.mean(1)),
        neighbour_distance=mean_estimate(normalised_edit_distances(befores, afters).view(num_paths, -1).mean(1)),
        end_distance=mean_estimate(normalised_edit_distances(firsts, lasts)),
        path_length=ratio_estimate(steps.sum(1), between_ends) if is_defined else None,
        largest_step=mean_estimate(steps.amax(1)[moving] / steps.sum(1)[moving]) if is_defined else None,
    )
