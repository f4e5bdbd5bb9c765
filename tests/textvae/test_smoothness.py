"""The shape of interpolations: paths made by hand, and those of a trained run."""

import math
import random

import pytest
import torch
from tiny import start_run, tiny_recipe, write_corpus

from latent.measures import mean_estimate
from textvae.edit_distance import edit_distances
from textvae.session import Trained, open_trained
from textvae.smoothness import measure_smoothness, path_smoothness

STRAIGHT = ["a b c d", "x b c d", "x y c d", "x y z d", "x y z w"]
JUMP = ["a b c d", "a b c d", "x y z w", "x y z w", "x y z w"]
DETOUR = ["a b c d", "q r s t", "x y z w", "q r s t", "x y z w"]


def test_a_straight_path() -> None:
    found = path_smoothness([STRAIGHT] * 30, is_tokenised=True)
    assert (found.num_paths, found.num_points) == (30, 5)
    assert found.path_length is not None
    assert found.largest_step is not None
    assert found.path_length.value == 1.0
    assert found.largest_step.value == 0.25
    assert found.distinct.value == 1.0
    assert found.repeated_neighbours.value == 0.0
    assert found.neighbour_distance.value == 0.25
    assert found.end_distance.value == 1.0
    assert found.different_ends.value == 1.0


def test_a_jump_is_as_short_but_takes_one_step() -> None:
    found = path_smoothness([JUMP] * 30, is_tokenised=True)
    assert found.path_length is not None
    assert found.largest_step is not None
    assert found.path_length.value == 1.0
    assert found.largest_step.value == 1.0
    assert found.repeated_neighbours.value == pytest.approx(3 / 4)
    assert found.distinct.value == pytest.approx(2 / 5)


def test_a_detour_is_longer() -> None:
    found = path_smoothness([STRAIGHT, DETOUR] * 30, is_tokenised=True)
    assert found.path_length is not None
    assert found.largest_step is not None
    assert found.path_length.value == pytest.approx((4 + 16) / (4 + 4))
    assert found.largest_step.value == pytest.approx(0.25)
    assert found.neighbour_distance.value == pytest.approx((0.25 + 1) / 2)
    assert found.distinct.value == pytest.approx((1 + 3 / 5) / 2)
    spread = mean_estimate(torch.tensor([1.0, 0.6] * 30))
    assert found.distinct.low == pytest.approx(spread.low)


def test_unrelated_sentences_are_as_long_as_can_be() -> None:
    rng = random.Random(0)
    paths = [[" ".join(rng.sample([f"w{i}" for i in range(2000)], 8)) for _ in range(7)] for _ in range(40)]
    found = path_smoothness(paths, is_tokenised=True)
    assert found.path_length is not None
    assert found.path_length.value == pytest.approx(6, abs=0.1)
    assert found.neighbour_distance.value > 0.98


def test_a_collapsed_decoder_is_not_smooth_but_undefined() -> None:
    found = path_smoothness([["the same ."] * 5] * 30, is_tokenised=True)
    assert found.path_length is None
    assert found.largest_step is None
    assert found.different_ends.value == 0.0
    assert found.repeated_neighbours.value == 1.0
    assert found.distinct.value == pytest.approx(1 / 5)
    mostly = path_smoothness([["the same ."] * 5] * 20 + [STRAIGHT] * 10, is_tokenised=True)
    assert mostly.path_length is None
    hardly = path_smoothness([["the same ."] * 5] * 5 + [STRAIGHT] * 25, is_tokenised=True)
    assert hardly.path_length is not None
    assert hardly.largest_step is not None
    assert hardly.largest_step.value == 0.25  # of the paths that move


def test_empty_sentences_are_sentences() -> None:
    found = path_smoothness([["", "a", "a b"]] * 30, is_tokenised=True)
    assert found.path_length is not None
    assert found.path_length.value == 1.0
    assert found.end_distance.value == 1.0


def test_no_path_is_shorter_than_straight() -> None:
    rng = random.Random(1)
    for _ in range(200):
        path = [" ".join(rng.choices("abc", k=rng.randrange(6))) for _ in range(5)]
        words = [sentence.split() for sentence in path]
        way = edit_distances(words[:-1], words[1:]).sum()
        assert way >= edit_distances(words[:1], words[-1:]).sum()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("run")
    return open_trained(start_run(tiny_recipe(write_corpus(folder)), folder / "run"))


@pytest.mark.parametrize("path", ["linear", "slerp"])
def test_of_a_run(trained: Trained, path: str) -> None:
    means = 40 * torch.randn(31, trained.model.latent_size, generator=torch.Generator().manual_seed(0))
    found = measure_smoothness(trained, means, num_paths=100, num_points=4, path=path)
    assert (found.num_paths, found.num_points) == (15, 4)
    assert found == measure_smoothness(trained, means, num_paths=100, num_points=4, path=path)
    assert found != measure_smoothness(trained, means, num_paths=100, num_points=4, path=path, seed=1)
    assert found.different_ends.value > 0.5
    assert 1 / 4 <= found.distinct.value <= 1


def test_equal_means_are_a_collapse(trained: Trained) -> None:
    found = measure_smoothness(trained, torch.ones(40, trained.model.latent_size), num_paths=5)
    assert found.num_paths == 5
    assert found.path_length is None
    assert found.repeated_neighbours.value == 1.0
    assert math.isclose(found.distinct.value, 1 / 7)


def test_what_makes_no_path_is_refused(trained: Trained) -> None:
    means = torch.zeros(6, trained.model.latent_size)
    with pytest.raises(ValueError, match="two sentences; the split has 1"):
        measure_smoothness(trained, means[:1])
    with pytest.raises(ValueError, match="at least 2 points"):
        measure_smoothness(trained, means, num_points=1)
