"""Agreement of clusters with classes, by hand and against scikit-learn; the simpler methods on separate blobs."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from imagevae.clusters import (
    adjusted_rand_index,
    agreement,
    best_matching,
    k_means,
    mixture,
    normalised_mutual_information,
    spectral,
    usage_entropy,
)

K = 4


def blobs(num_points: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around four corners that lie far apart, and which corner."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(K, size=num_points)
    corners = 10.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    return corners[labels] + rng.normal(size=(num_points, 3)), labels


def random_tables(num_tables: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 30, (num_tables, 5, 3))


def as_labels(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(table)
    return np.repeat(rows, table[rows, columns]), np.repeat(columns, table[rows, columns])


def test_matching_by_hand() -> None:
    """The greedy choice, cluster 0 with class 0 for its 5 images, would leave 5 + 0 + 1; the best has 4 + 4 + 1."""
    table = np.array([[5, 4, 0], [4, 0, 0], [0, 0, 1]])
    assert best_matching(table).tolist() == [1, 0, 2]
    clusters, labels = as_labels(table)
    found = agreement(clusters, labels, (3, 3), "test")
    assert found.accuracy.value == pytest.approx(9 / 14)
    assert found.accuracy.low < 9 / 14 < found.accuracy.high
    assert (found.num_images, found.num_clusters, found.num_classes, found.split) == (14, 3, 3, "test")


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]])
def test_perfect_clusters_agree_under_any_names(order: list[int]) -> None:
    _, labels = blobs()
    found = agreement(np.array(order)[labels], labels, (K, K), "train")
    assert found.accuracy.value == found.nmi.value == found.ari.value == 1


def test_renaming_the_clusters_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    _, labels = blobs()
    clusters = np.where(rng.random(len(labels)) < 0.7, labels, rng.integers(K, size=len(labels)))
    first = agreement(clusters, labels, (K, K), "test")
    second = agreement(np.array([2, 3, 1, 0])[clusters], labels, (K, K), "test")
    for name in ("accuracy", "nmi", "ari"):
        a, b = getattr(first, name), getattr(second, name)
        assert a.value == pytest.approx(b.value)
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.02)  # other draws of the bootstrap


def test_more_clusters_than_classes_and_fewer() -> None:
    _, labels = blobs()
    halves = 2 * labels + (np.arange(len(labels)) % 2)
    found = agreement(halves, labels, (2 * K, K), "test")
    assert sorted(best_matching(np.eye(3, 2, dtype=np.int64))) == [-1, 0, 1]
    assert 0.45 < found.accuracy.value < 0.6
    one = agreement(np.zeros_like(labels), labels, (1, K), "test")
    assert one.accuracy.value == np.bincount(labels).max() / len(labels)
    assert one.nmi.value == pytest.approx(0)
    assert one.ari.value == pytest.approx(0)


def test_agreement_is_scikit_learns() -> None:
    for table in random_tables():
        clusters, labels = as_labels(table)
        assert normalised_mutual_information(table[None])[0] == pytest.approx(
            normalized_mutual_info_score(labels, clusters)
        )
        assert adjusted_rand_index(table[None])[0] == pytest.approx(adjusted_rand_score(labels, clusters))


def test_tables_are_measured_together_as_one_by_one() -> None:
    tables = random_tables()
    for statistic in (normalised_mutual_information, adjusted_rand_index):
        np.testing.assert_allclose(statistic(tables), [statistic(table[None])[0] for table in tables])


def test_one_cluster_of_one_class_agrees_as_scikit_learn_has_it() -> None:
    table = np.array([[[7]]])
    assert normalised_mutual_information(table)[0] == normalized_mutual_info_score([0] * 7, [0] * 7) == 1
    assert adjusted_rand_index(table)[0] == adjusted_rand_score([0] * 7, [0] * 7) == 1


def test_intervals_cover_the_agreement_of_many_images() -> None:
    """95 of 100 intervals of 300 images should hold what 300,000 have; 88 or more do but once in 400 times."""
    rng = np.random.default_rng(0)
    table = np.array([[40, 5, 5], [2, 20, 8], [5, 5, 10]]) / 100

    def drawn(num_images: int) -> tuple[np.ndarray, np.ndarray]:
        return as_labels(rng.multinomial(num_images, table.ravel()).reshape(3, 3))

    truth = agreement(*drawn(300_000), (3, 3), "test")
    held = {"accuracy": 0, "nmi": 0, "ari": 0}
    for seed in range(100):
        found = agreement(*drawn(300), (3, 3), "test", seed=seed)
        for name in held:
            estimate = getattr(found, name)
            held[name] += estimate.low <= getattr(truth, name).value <= estimate.high
    assert min(held.values()) >= 88


def test_usage_entropy_is_log_k_where_clusters_are_used_alike_and_0_where_one_is() -> None:
    assert usage_entropy(torch.eye(K).add(1e-30).log()) == pytest.approx(np.log(K))
    assert usage_entropy(torch.tensor([[1.0, 1e-30]] * 3).log()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("method", [k_means, mixture])
def test_simpler_methods_find_what_is_far_apart_and_are_seeded(method: object) -> None:
    (train, labels), (test, test_labels) = blobs(), blobs(100, seed=1)
    found = method(train, test, K, 0)
    assert agreement(found[0], labels, (K, K), "train").accuracy.value == 1
    assert agreement(found[1], test_labels, (K, K), "test").accuracy.value == 1
    for first, second in zip(found, method(train, test, K, 0), strict=True):
        np.testing.assert_array_equal(first, second)


def test_spectral_clustering_finds_what_is_far_apart() -> None:
    points, labels = blobs()
    assert agreement(spectral(points, K, 0), labels, (K, K), "train").accuracy.value == 1
