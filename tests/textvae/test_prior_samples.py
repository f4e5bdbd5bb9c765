"""Samples of the prior beside the corpus: each figure against another way to it, and the whole on a trained run."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from tiny import sentences, start_run, tiny_recipe, write_corpus

from corpora import Sentences, Tokenizer, TokenizerConfig, encode_sentences
from textvae.ngrams import NgramModel
from textvae.prior_samples import (
    SampleFigures,
    copied_share,
    length_distance,
    measure_prior_samples,
    reverse_perplexity,
    sample_figures,
)
from textvae.rates import perplexity
from textvae.session import Trained, open_trained


def lengths(num_sentences: int, mean: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, num_sentences).astype(np.int64) + 2


@pytest.mark.parametrize(("num_second", "mean"), [(300, 9.0), (77, 5.0), (1000, 30.0)])
def test_length_distance_is_scipy_s(num_second: int, mean: float) -> None:
    first, second = lengths(300, 9.0, 0), lengths(num_second, mean, 1)
    found, _ = length_distance(first, second)
    assert found.value == pytest.approx(scipy.stats.wasserstein_distance(first, second))
    assert found.low <= found.value < found.high


def test_length_distance_by_hand() -> None:
    found, floor = length_distance(np.array([2, 2, 4]), np.array([3, 3, 8]))
    assert found.value == pytest.approx((1 + 1 + 4) / 3)
    assert (found.low, found.high) == (0.0, math.inf)
    assert floor > 0
    assert length_distance(np.full(20, 5), np.full(30, 7))[0].value == 2.0
    same, no_spread = length_distance(np.full(20, 5), np.full(30, 5))
    assert (same.value, same.high, no_spread) == (0.0, 0.0, 0.0)


def test_the_floor_is_what_two_sets_of_one_source_have() -> None:
    found = [length_distance(lengths(200, 9.0, 2 * i), lengths(300, 9.0, 2 * i + 1)) for i in range(60)]
    assert np.mean([distance.value for distance, _ in found]) == pytest.approx(found[0][1], rel=0.15)


def test_length_distance_covers_a_true_difference() -> None:
    truth = 3.0  # Poisson means 12 and 9: one distribution lies to the right of the other
    found = [length_distance(lengths(200, 12.0, 2 * i), lengths(150, 9.0, 2 * i + 1))[0] for i in range(100)]
    assert 0.9 < np.mean([estimate.low <= truth <= estimate.high for estimate in found]) < 0.99


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(sentences(300), TokenizerConfig())


def encoded(tokenizer: Tokenizer, texts: list[str]) -> Sentences:
    return encode_sentences(texts, tokenizer, 40)


def test_copies(tokenizer: Tokenizer) -> None:
    train = encoded(tokenizer, sentences(50))
    texts = [*sentences(50)[:3], "the dog saw", "the dog saw me . and then", "", sentences(60)[-1]]
    found = copied_share(encoded(tokenizer, texts), train)
    assert found.value == pytest.approx(3 / 7)
    assert found.low < 3 / 7 < found.high


def test_reverse_perplexity_is_the_test_split_s_under_the_samples(tokenizer: Tokenizer) -> None:
    samples, test = encoded(tokenizer, sentences(60, seed=1)), encoded(tokenizer, sentences(40, seed=2))
    found = reverse_perplexity(samples, test, len(tokenizer))
    nll = NgramModel.fit(samples, len(tokenizer), 3).nll(test)
    num_tokens = torch.as_tensor(test.lengths, dtype=torch.float64) - 1
    on_test_alone = perplexity(nll, num_tokens)
    assert found.value == pytest.approx(on_test_alone.value)
    assert found.low < on_test_alone.low  # both sets vary, not the test split alone
    assert found.high > on_test_alone.high
    few = reverse_perplexity(samples, test.select(np.arange(20)), len(tokenizer))
    many = reverse_perplexity(samples, encoded(tokenizer, sentences(800, seed=3)), len(tokenizer))
    assert few.high / few.low > 1.15 * many.high / many.low


def test_forward_sees_what_is_wrong_and_reverse_what_is_missing(tokenizer: Tokenizer) -> None:
    train, test = encoded(tokenizer, sentences(200)), encoded(tokenizer, sentences(50, seed=5))
    wide = sentences(60, seed=7)
    narrow = [text for text in sentences(300, seed=6) if text.startswith("the dog saw")]
    rng = random.Random(0)
    mixed = [" ".join(rng.sample(text.split(), len(text.split()))) for text in wide]
    trained_on = NgramModel.fit(train, len(tokenizer))

    def figures(texts: list[str]) -> SampleFigures:
        return sample_figures(encoded(tokenizer, texts), [text.split() for text in texts], train, test, trained_on)

    good, missing, wrong = figures(wide), figures((narrow * 60)[:60]), figures(mixed)
    assert missing.forward_ppl.value < 1.1 * good.forward_ppl.value
    assert missing.reverse_ppl.low > 3 * good.reverse_ppl.high
    assert wrong.forward_ppl.low > 3 * good.forward_ppl.high
    assert missing.self_bleu.low > good.self_bleu.high
    assert missing.distinct_2.high < good.distinct_2.low
    assert good.tokens_per_sentence.value == pytest.approx(sum(len(text.split()) + 1 for text in wide) / 60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("run")
    recipe = tiny_recipe(write_corpus(folder, 400), "corpus.max_length=12")
    return open_trained(start_run(recipe, folder / "run"))


def test_of_a_trained_run(trained: Trained) -> None:
    splits = trained.splits
    found = measure_prior_samples(trained, num_samples=25)
    assert found == measure_prior_samples(trained, num_samples=25)
    assert found != measure_prior_samples(trained, num_samples=25, seed=1)
    assert (found.num_sentences, found.ngram_order) == (min(25, len(splits.valid)), 3)
    # thirty steps do not teach the language: the corpus is more fluent, and teaches more
    assert found.samples.forward_ppl.value > found.corpus.forward_ppl.high
    assert found.samples.reverse_ppl.value > found.corpus.reverse_ppl.value
    assert found.samples.tokens_per_sentence.value <= 12
    everything = measure_prior_samples(trained, num_samples=10**6)
    assert everything.num_sentences == len(splits.valid)
    assert everything.corpus.copies == copied_share(splits.valid, splits.train)
    assert everything.corpus.copies.value > 0  # sentences that were cut to the same words
    assert everything.corpus.tokens_per_sentence.value == splits.valid.num_scored_tokens / len(splits.valid)


def test_the_run_s_folder_is_left_alone(trained: Trained) -> None:
    def listing() -> set[Path]:
        return set(trained.run.path.rglob("*"))

    before = listing()
    measure_prior_samples(trained, num_samples=5)
    assert listing() == before
