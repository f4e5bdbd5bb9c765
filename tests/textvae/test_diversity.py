"""Self-BLEU against sacrebleu with its references written out, distinct-n against sets."""

import math
import random
from dataclasses import astuple

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from latent.measures import Estimate
from textvae.diversity import NgramCounts, distinct_ngrams, self_bleu


def some_sentences(num_sentences: int, seed: int, words: str = "abcde") -> list[list[str]]:
    rng = random.Random(seed)
    return [rng.choices(words, k=rng.randrange(1, 12)) for _ in range(num_sentences)]


def sacrebleu_s(sentences: list[list[str]]) -> float:
    bleu = BLEU(tokenize="none", smooth_method="floor", smooth_value=0.1, effective_order=True, force=True)
    texts = [" ".join(words) for words in sentences]
    scores = [bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
    return sum(scores) / len(scores)


@pytest.mark.parametrize("num_sentences", [2, 3, 10, 60])
@pytest.mark.parametrize("seed", [0, 1])
def test_self_bleu_is_sacrebleu_s_with_all_others_as_references(num_sentences: int, seed: int) -> None:
    sentences = some_sentences(num_sentences, seed)
    assert self_bleu(NgramCounts.of(sentences)).value == pytest.approx(sacrebleu_s(sentences))


def test_the_interval_is_that_of_leaving_out_a_twentieth() -> None:
    sentences = some_sentences(50, 2)
    found = self_bleu(NgramCounts.of(sentences))
    left = [sacrebleu_s([words for i, words in enumerate(sentences) if i % 20 != group]) for group in range(20)]
    assert found.high - found.value == pytest.approx(2.0930 * math.sqrt(19) * np.std(left), rel=1e-4)


def test_self_bleu_at_its_ends() -> None:
    same = [["the", "dog", "saw", "a", "cat"]] * 30
    assert astuple(self_bleu(NgramCounts.of(same))) == pytest.approx((100.0, 100.0, 100.0))
    different = [[f"{i} {j}" for j in range(6)] for i in range(30)]
    assert self_bleu(NgramCounts.of(different)) == Estimate(0.0, 0.0, 0.0)
    twins = [words for words in different for _ in range(2)]
    assert self_bleu(NgramCounts.of(twins)).value == pytest.approx(100.0)


def test_a_word_said_twice_needs_another_that_says_it_twice() -> None:
    counts = NgramCounts.of([["a", "a"], ["a", "b"], ["c", "d"]])
    # "a a" matches one of its two a; "a b" one of a, b; "c d" nothing; no pair of words matches: 0.1 of one
    half = 100 * math.sqrt(1 / 2 * 0.1 / 1)
    assert self_bleu(counts).value == pytest.approx((half + half + 0) / 3)


def test_sentences_without_words_are_left_out_of_the_mean() -> None:
    sentences = some_sentences(20, 3)
    with_empty = self_bleu(NgramCounts.of([[], *sentences, []]))
    assert with_empty.value == pytest.approx(self_bleu(NgramCounts.of(sentences)).value)
    nothing = NgramCounts.of([[]] * 25)
    assert math.isnan(self_bleu(nothing).value)
    assert math.isnan(distinct_ngrams(nothing, 1).value)


def test_one_sentence_has_no_others() -> None:
    with pytest.raises(ValueError, match="at least two sentences, got 1"):
        self_bleu(NgramCounts.of([["a"]]))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_distinct_ngrams_against_sets(n: int) -> None:
    sentences = some_sentences(40, 4, "abcdefghijkl")
    every = [tuple(words[i : i + n]) for words in sentences for i in range(len(words) - n + 1)]
    assert distinct_ngrams(NgramCounts.of(sentences), n).value == pytest.approx(len(set(every)) / len(every))


def test_distinct_ngrams_by_hand() -> None:
    counts = NgramCounts.of([["a", "b", "a"], ["a", "b"]])
    assert distinct_ngrams(counts, 1).value == pytest.approx(2 / 5)
    assert distinct_ngrams(counts, 2).value == pytest.approx(2 / 3)
    assert math.isnan(distinct_ngrams(counts, 4).value)


def test_intervals_hold_their_values_and_shrink() -> None:
    few, many = (NgramCounts.of(some_sentences(n, 5, "abcdefghijklmnop")) for n in (40, 640))
    for measure in (self_bleu, lambda counts: distinct_ngrams(counts, 2)):
        a, b = measure(few), measure(many)
        assert a.low < a.value < a.high
        assert b.high - b.low < 0.6 * (a.high - a.low)
