"""How well clusters agree with classes that no method was shown: those of a model, and those of simpler methods."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from scipy.optimize import linear_sum_assignment
from scipy.special import comb, entr
from torch import Tensor

from imagevae.generation import posterior_means
from imagevae.models import Vade
from imagevae.models.vade import usage_entropy
from imagevae.session import TrainedImages
from latent.measures import Estimate, evaluating, share_estimate

NUM_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class ClusterMeasures:
    """Agreement of K clusters with C classes on the N images of a split, with 95 % intervals over the images.

    `accuracy` is the share of images whose cluster is the one matched with their class, the matching being the best
    for this split (Kuhn 1955), its interval Wilson's with the matching held fixed. `nmi` is the mutual information over
    the mean of the two entropies, `ari` Hubert & Arabie's 1985 adjusted Rand index, their intervals a percentile
    bootstrap. `usage_entropy` is that of the mean p(c|z), in nats: ln K where all clusters are used alike.
    """

    split: str
    num_images: int
    num_clusters: int
    num_classes: int
    accuracy: Estimate
    nmi: Estimate
    ari: Estimate
    usage_entropy: float | None = None  # None for methods without p(c|z)


def measure_clusters(trained: TrainedImages, split: str = "test", seed: int = 0) -> ClusterMeasures:
    """The agreement on a split, each image in the cluster of most p(c|z) at z the *mean* of its posterior.

    The figures of Jiang et al. 2017 take p(c|z) at a draw of z; at the mean they are steadier. Raises ValueError for an
    unknown split, images without labels and a model without clusters.
    """
    labels = split_labels(trained, split)
    log_probs = cluster_log_probs(trained, split)
    return agreement(
        log_probs.argmax(1).numpy(),
        labels,
        (log_probs.shape[1], trained.form.num_classes),
        split,
        usage_entropy=usage_entropy(log_probs),
        seed=seed,
    )


def split_labels(trained: TrainedImages, split: str) -> Int64[np.ndarray, " N"]:
    """The classes of a split's images. Raises ValueError for an unknown split and images without labels."""
    splits = trained.splits.by_name()
    if split not in splits:
        raise ValueError(f"--split {split}: no such split; there are {', '.join(splits)}")
    labels = splits[split].labels
    if labels is None:
        raise ValueError(f"corpus.kind {trained.recipe.corpus.kind}: has no labels for clusters to agree with")
    return labels


def cluster_log_probs(trained: TrainedImages, split: str) -> Float[Tensor, "N K"]:
    """ln p(c|z) of every image of a split at its posterior mean. Raises ValueError for a model without clusters."""
    model = trained.model
    if not isinstance(model, Vade):
        raise ValueError(f"model.kind {trained.recipe.model.kind}: has no clusters; train a vade")
    means = posterior_means(trained, split)
    with evaluating(model, 0):
        return model.cluster_log_probs(means.to(trained.device)).cpu()


def agreement(
    clusters: Integer[np.ndarray, " N"],
    labels: Int64[np.ndarray, " N"],
    sizes: tuple[int, int],
    split: str,
    *,
    usage_entropy: float | None = None,
    seed: int = 0,
) -> ClusterMeasures:
    """The agreement of N images' clusters with their classes; `sizes` are K and C."""
    table = np.zeros(sizes, dtype=np.int64)
    np.add.at(table, (clusters, labels), 1)
    hits = best_matching(table)[clusters] == labels
    draws = np.random.default_rng(seed).multinomial(len(labels), table.ravel() / len(labels), NUM_RESAMPLES)
    resamples = draws.reshape(NUM_RESAMPLES, *sizes)
    return ClusterMeasures(
        split=split,
        num_images=len(labels),
        num_clusters=sizes[0],
        num_classes=sizes[1],
        accuracy=share_estimate(torch.from_numpy(hits)),
        nmi=_bootstrapped(normalised_mutual_information, table, resamples),
        ari=_bootstrapped(adjusted_rand_index, table, resamples),
        usage_entropy=usage_entropy,
    )


def best_matching(table: Int64[np.ndarray, "K C"]) -> Int64[np.ndarray, " K"]:
    """The class of each cluster in the one-to-one matching that the most images agree with; −1 for clusters left over.

    Reference: Kuhn 1955, "The Hungarian Method for the Assignment Problem".
    """
    classes = np.full(len(table), -1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    classes[rows] = columns
    return classes


def normalised_mutual_information(tables: Int64[np.ndarray, "R K C"]) -> Float[np.ndarray, " R"]:
    """I(c; y) over the mean of H(c) and H(y), of each table of counts; 1 where neither tells images apart."""
    shares = tables / tables.sum((1, 2), keepdims=True)
    of_clusters, of_classes = entr(shares.sum(2)).sum(1), entr(shares.sum(1)).sum(1)
    information, mean = of_clusters + of_classes - entr(shares).sum((1, 2)), (of_clusters + of_classes) / 2
    return _ratio(information, mean).clip(0, 1)  # but for rounding


def adjusted_rand_index(tables: Int64[np.ndarray, "R K C"]) -> Float[np.ndarray, " R"]:
    """Pairs of images together in both, less those expected by chance, over the most that there could be, less these.

    Reference: Hubert & Arabie 1985, "Comparing Partitions", equation 5. 1 where all pairs are alike in both.
    """
    together = comb(tables, 2).sum((1, 2))
    in_clusters, in_classes = comb(tables.sum(2), 2).sum(1), comb(tables.sum(1), 2).sum(1)
    expected = in_clusters * in_classes / comb(tables.sum((1, 2)), 2)
    most = (in_clusters + in_classes) / 2 - expected
    return _ratio(together - expected, most)


def _ratio(part: Float[np.ndarray, " R"], whole: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """1 where there is nothing to be a part of."""
    found: Float[np.ndarray, " R"] = np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)
    return found


def _bootstrapped(
    statistic: Callable[[Any], Any], table: Int64[np.ndarray, "K C"], resamples: Int64[np.ndarray, "R K C"]
) -> Estimate:
    """Resampled tables stand for resampled images, since the statistics know nothing but the table."""
    low, high = np.quantile(statistic(resamples), [0.025, 0.975])
    return Estimate(float(statistic(table[None])[0]), float(low), float(high))


Points = Float[np.ndarray, "N D"]
Assigned = tuple[Integer[np.ndarray, " N"], Integer[np.ndarray, " M"]]


def k_means(train: Points, test: Float[np.ndarray, "M D"], num_clusters: int, seed: int) -> Assigned:
    """The best by its own criterion of ten k-means++ starts on the training points; clusters of these and of others."""
    from sklearn.cluster import KMeans

    found = KMeans(num_clusters, n_init=10, random_state=seed).fit(train)
    return found.labels_, found.predict(test)


def mixture(
    train: Points,
    test: Float[np.ndarray, "M D"],
    num_clusters: int,
    seed: int,
    covariance: str = "full",
    num_starts: int = 10,
) -> Assigned:
    """The likeliest of several normal mixtures on the training points; clusters of these and of others.

    `covariance` is scikit-learn's, `full` or `diag`; 10⁻³ is added to all variances, since some pixels never vary.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    found = GaussianMixture(
        num_clusters, covariance_type=covariance, n_init=num_starts, reg_covar=1e-3, max_iter=500, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the likelihood decides, whether or not it has settled
        found.fit(train)
    return found.predict(train), found.predict(test)


def spectral(points: Points, num_clusters: int, seed: int) -> Integer[np.ndarray, " N"]:
    """Spectral clustering on the ten nearest neighbours of each point; it has no clusters for other points.

    Time and memory grow with N² at least: meant for a subsample of some thousands.
    """
    from sklearn.cluster import SpectralClustering

    found = SpectralClustering(
        num_clusters, affinity="nearest_neighbors", n_neighbors=10, assign_labels="kmeans", random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the graph has several parts
        clusters: Integer[np.ndarray, " N"] = found.fit_predict(points)
    return clusters
