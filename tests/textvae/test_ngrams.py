"""The n-gram model against a second one in dictionaries and fractions, and against its own axioms."""

import itertools
import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
import torch

from corpora import BOS, EOS, UNK, Sentences
from textvae.ngrams import NgramModel

NUM_IDS = 9
WORDS = range(EOS, NUM_IDS)


def encoded(*sentences: list[int]) -> Sentences:
    """Sentences of words, given without their marks."""
    whole = [[BOS, *words, EOS] for words in sentences]
    offsets = np.cumsum([0, *map(len, whole)])
    return Sentences(tokens=np.concatenate(whole).astype(np.uint16), offsets=offsets.astype(np.int64))


def some_sentences(num_sentences: int, seed: int) -> Sentences:
    rng = np.random.default_rng(seed)
    return encoded(*(rng.integers(UNK, NUM_IDS - 1, rng.integers(0, 7)).tolist() for _ in range(num_sentences)))


class Dictionaries:
    """Witten–Bell by its recursion."""

    def __init__(self, sentences: Sentences, order: int) -> None:
        self.order = order
        self.followers: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for history, word in self.windows(sentences):
            for n in range(order):
                self.followers[history[len(history) - n :]][word] += 1

    def windows(self, sentences: Sentences) -> list[tuple[tuple[int, ...], int]]:
        found = []
        for i in range(len(sentences)):
            ids = [BOS] * (self.order - 2) + sentences[i].tolist() if self.order > 1 else sentences[i].tolist()
            first = max(self.order - 1, 1)
            found += [(tuple(ids[t - self.order + 1 : t]), ids[t]) for t in range(first, len(ids))]
        return found

    def probability(self, history: tuple[int, ...], word: int) -> Fraction:
        lower = self.probability(history[1:], word) if history else Fraction(1, NUM_IDS - EOS)
        seen = self.followers.get(history)
        if seen is None:
            return lower
        return (seen[word] + len(seen) * lower) / (seen.total() + len(seen))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_is_witten_and_bell_s_recursion(order: int) -> None:
    train, test = some_sentences(30, 0), some_sentences(20, 1)
    naive = Dictionaries(train, order)
    expected = [
        -sum(math.log(naive.probability(history, word)) for history, word in naive.windows(encoded(test[i][1:-1])))
        for i in range(len(test))
    ]
    found = NgramModel.fit(train, NUM_IDS, order).nll(test)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_history_has_a_distribution_over_the_vocabulary(order: int) -> None:
    model = NgramModel.fit(some_sentences(15, 2), NUM_IDS, order)
    histories = list(itertools.product([BOS, *WORDS], repeat=order - 1))
    sums = 0.0
    for word in WORDS:
        probability = model.probability(np.array([(*history, word) for history in histories]))
        assert (probability > 0).all()
        sums = sums + probability
    np.testing.assert_allclose(sums, 1.0, rtol=1e-12)


def test_by_hand() -> None:
    model = NgramModel.fit(encoded([4, 4]), NUM_IDS, order=2)
    # tokens 4 4 </s>: p(4) = (2 + 2/7) / (3 + 2); after 4 came 4 and </s>: p(4|4) = (1 + 2 p(4)) / (2 + 2)
    unigram = (2 + 2 / 7) / 5
    assert model.probability(np.array([[4, 4]])).item() == pytest.approx((1 + 2 * unigram) / 4)
    # 5 was never seen: after it, the unigram's
    assert model.probability(np.array([[5, 4]])).item() == pytest.approx(unigram)
    assert model.probability(np.array([[5, 6]])).item() == pytest.approx(2 / 7 / 5)


def test_sentences_do_not_touch_one_another() -> None:
    model = NgramModel.fit(some_sentences(30, 3), NUM_IDS)
    test = some_sentences(12, 4)
    alone = torch.cat([model.nll(test.select(np.array([i]))) for i in range(12)])
    torch.testing.assert_close(model.nll(test), alone)
    assert len(set(alone.tolist())) > 6


def test_more_of_the_same_source_helps_and_the_truth_is_a_bound() -> None:
    """A Markov chain's own entropy is below every model's cross-entropy, and approached."""
    rng = np.random.default_rng(5)
    chain = rng.dirichlet(np.full(6, 0.3), size=6)  # from and to <end>, 4, 5, 6, 7, 8

    def draw(num_sentences: int) -> Sentences:
        found = []
        while len(found) < num_sentences:
            words, state = [], 0
            while (state := rng.choice(6, p=chain[state])) != 0 and len(words) < 60:
                words.append(state + 3)
            found.append(words)
        return encoded(*found)

    test = draw(400)
    steps = [[0, *(test[i][1:-1] - 3), 0] for i in range(len(test))]
    truth = -sum(math.log(chain[a, b]) for path in steps for a, b in itertools.pairwise(path))
    found = [NgramModel.fit(draw(size), NUM_IDS).nll(test).sum().item() for size in (10, 100, 1500)]
    assert found[0] > found[1] > found[2] > truth
    assert found[2] < truth * 1.04


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        NgramModel.fit(encoded([4]).select(np.arange(0)), NUM_IDS)
