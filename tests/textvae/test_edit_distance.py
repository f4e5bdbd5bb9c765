"""Edit distances against the recursion that defines them."""

import itertools
import random
from functools import cache

import pytest
import torch

from textvae.edit_distance import (
    edit_distances,
    normalised_edit_distances,
    reconstruction_distance,
    split_words,
)


def levenshtein(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    @cache
    def between(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(between(i - 1, j) + 1, between(i, j - 1) + 1, between(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return between(len(a), len(b))


def some_sentences(num_sentences: int, seed: int) -> list[tuple[str, ...]]:
    rng = random.Random(seed)
    return [tuple(rng.choices("abcd", k=rng.randrange(9))) for _ in range(num_sentences)]


@pytest.mark.parametrize(
    ("first", "second", "distance", "normalised"),
    [
        ("", "", 0, 0.0),
        ("", "a b", 2, 1.0),
        ("a b c", "", 3, 1.0),
        ("a b c", "a b c", 0, 0.0),
        ("a b c", "d e f", 3, 1.0),
        ("a b c d", "b c d", 1, 1 / 4),
        ("b c d", "a b c d", 1, 1 / 4),
        ("k i t t e n", "s i t t i n g", 3, 3 / 7),
        ("the dog saw me", "the dog, saw me", 1, 1 / 4),
    ],
)
def test_cases_by_hand(first: str, second: str, distance: int, normalised: float) -> None:
    pair = [first.split()], [second.split()]
    assert edit_distances(*pair).tolist() == [distance]
    assert normalised_edit_distances(*pair).tolist() == pytest.approx([normalised])


def test_many_pairs_at_once_are_the_recursions() -> None:
    a, b = some_sentences(600, 0), some_sentences(600, 1)
    expected = [levenshtein(x, y) for x, y in zip(a, b, strict=True)]
    assert edit_distances(a, b).tolist() == expected
    assert len(set(expected)) > 6
    longer = [max(len(x), len(y), 1) for x, y in zip(a, b, strict=True)]
    found = normalised_edit_distances(a, b)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64) / torch.tensor(longer))
    assert found.min() == 0
    assert found.max() == 1


def test_it_is_a_metric() -> None:
    triples = list(itertools.product(some_sentences(9, 2), repeat=3))
    a, b, c = (list(column) for column in zip(*triples, strict=True))
    assert (edit_distances(a, b) <= edit_distances(a, c) + edit_distances(c, b)).all()
    assert torch.equal(edit_distances(a, b), edit_distances(b, a))


def test_a_pair_does_not_depend_on_the_others() -> None:
    pairs = [("a",), ("a", "b", "c")], [("b", "a"), ()]
    assert edit_distances(*pairs).tolist() == [1, 3]
    assert [edit_distances(pairs[0][i : i + 1], pairs[1][i : i + 1]).item() for i in range(2)] == [1, 3]
    assert edit_distances([], []).shape == (0,)


def test_reconstructions() -> None:
    found = reconstruction_distance(["a b", "c", ""], ["a c", "c", "d"], is_tokenised=True)
    assert found.value == pytest.approx((0.5 + 0 + 1) / 3)
    error = torch.tensor([0.5, 0.0, 1.0]).std().item() / 3**0.5
    assert found.high - found.value == pytest.approx(4.302653 * error)  # Student's, 2 degrees of freedom


def test_raw_text_is_split_as_bleu_splits_it() -> None:
    assert split_words(["Hello, world."], is_tokenised=False) == [["Hello", ",", "world", "."]]
    assert split_words(["Hello, world."], is_tokenised=True) == [["Hello,", "world."]]
    assert reconstruction_distance(["Go!"], ["Go"], is_tokenised=False).value == 0.5
    assert reconstruction_distance(["Go!"], ["Go"], is_tokenised=True).value == 1.0
