"""Where clusters begin: a partition of points, and the mixture of diagonal normals that goes with it. No labels."""

import warnings
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64
from pydantic import Field, NonNegativeInt, PositiveInt

LEAST_SPREAD = 1e-6  # added to the variances, as scikit-learn does by default
K_MEANS_STARTS = 10

Points = Float64[np.ndarray, "N Z"]


@dataclass(frozen=True)
class ClusterStart:
    """The cluster of each of N points, and weight, centre and variances of each of K clusters."""

    clusters: Int64[np.ndarray, " N"]
    weights: Float[np.ndarray, " K"]
    centres: Float[np.ndarray, "K Z"]
    variances: Float[np.ndarray, "K Z"]


@dataclass(frozen=True, kw_only=True)
class MixtureStart:
    """The likeliest of several mixtures, each fitted by EM from a k-means start; of full covariances the diagonals."""

    kind: Literal["mixture"] = "mixture"
    num_starts: PositiveInt = 10
    covariance: Literal["full", "diagonal"] = "full"

    def find(self, points: Points, num_clusters: int, seed: int) -> ClusterStart:
        """Fit to the points."""
        from sklearn.exceptions import ConvergenceWarning  # here: the import takes longer than the rest of a start
        from sklearn.mixture import GaussianMixture

        kind = {"full": "full", "diagonal": "diag"}[self.covariance]
        settings = {"n_init": self.num_starts, "reg_covar": LEAST_SPREAD, "max_iter": 500, "random_state": seed}
        fitted = GaussianMixture(num_clusters, covariance_type=kind, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # EM may stop early: training goes on from there
            clusters = fitted.fit_predict(points)
        covariances = fitted.covariances_
        variances = np.diagonal(covariances, axis1=1, axis2=2).copy() if kind == "full" else covariances
        return ClusterStart(clusters, fitted.weights_, fitted.means_, variances)


@dataclass(frozen=True, kw_only=True)
class SpectralStart:
    r"""Spectral clustering of the graph in which each point is joined to its nearest neighbours.

    With W = (A + Aᵀ)/2, A the graph's adjacency, and D its degrees, the rows of the K + `num_more` first eigenvectors
    of \(D^{-1/2} W D^{-1/2}\), brought to unit length, are clustered by k-means: Ng, Jordan & Weiss 2002, "On Spectral
    Clustering: Analysis and an algorithm", where `num_more` is 0. More of them leave room for a split of one cluster
    that is deeper than the one between two others. Clusters may so have any shape; the mixture has their means and
    variances.
    """

    kind: Literal["spectral"] = "spectral"
    num_neighbours: PositiveInt = 10
    num_more: Annotated[NonNegativeInt, Field(le=1000)] = 2

    def find(self, points: Points, num_clusters: int, seed: int) -> ClusterStart:
        """Cluster the points."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        rows = self.embedding(points, num_clusters + self.num_more, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer places than clusters
            clusters = KMeans(num_clusters, n_init=K_MEANS_STARTS, random_state=seed).fit(rows).labels_.astype(np.int64)
        # a cluster without points, where points coincide, begins as all of them
        members = [points[clusters == c] if (clusters == c).any() else points for c in range(num_clusters)]
        weights = np.bincount(clusters, minlength=num_clusters).clip(min=1)
        return ClusterStart(
            clusters,
            weights / weights.sum(),
            np.stack([part.mean(0) for part in members]),
            np.stack([part.var(0) + LEAST_SPREAD for part in members]),
        )

    def embedding(self, points: Points, num_dimensions: int, seed: int) -> Float64[np.ndarray, "N D"]:
        """Each point's row of the eigenvectors, of unit length."""
        from scipy.sparse import diags_array
        from scipy.sparse.linalg import lobpcg
        from sklearn.neighbors import kneighbors_graph

        graph = kneighbors_graph(points, min(self.num_neighbours, len(points) - 1))
        joined = (graph + graph.T) / 2
        scale = diags_array(np.asarray(joined.sum(1)).ravel() ** -0.5)
        begin = np.random.default_rng(seed).normal(size=(len(points), min(num_dimensions, len(points))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # more digits than k-means asks for
            # a block, since a graph in parts has one eigenvalue as often as it has parts
            _, vectors = lobpcg((scale @ joined @ scale).tocsr(), begin, tol=1e-4, maxiter=300)
        rows: Float64[np.ndarray, "N D"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
        return rows


Start = Annotated[MixtureStart | SpectralStart, Field(discriminator="kind")]
