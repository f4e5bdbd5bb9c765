"""What a model writes from the prior, beside as many sentences of the corpus that it has not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from corpora import Sentences, encode_sentences
from latent.measures import Estimate, exponential, mean_estimate, share_estimate
from latent.measures.jackknife import jackknife_estimate
from textvae.decoding import Sampling
from textvae.diversity import NgramCounts, distinct_ngrams, self_bleu
from textvae.edit_distance import split_words
from textvae.generation import sample
from textvae.ngrams import NgramModel
from textvae.rates import perplexity
from textvae.session import Trained

NGRAM_ORDER = 3


@dataclass(frozen=True)
class SampleFigures:
    """What is known of a set of sentences, in itself and against the corpus."""

    tokens_per_sentence: Estimate  # words or pieces and </s>: T
    self_bleu: Estimate
    distinct_1: Estimate
    distinct_2: Estimate
    copies: Estimate  # the share that stands in the training split, id by id
    forward_ppl: Estimate  # of the set, under an n-gram model of the training split: is it fluent?
    reverse_ppl: Estimate  # of the test split, under an n-gram model of the set: does it say all there is to say?


@dataclass(frozen=True)
class PriorSamples:
    """Samples of the prior beside unseen sentences of the corpus: equal numbers, and every figure of both.

    Self-BLEU, distinct-n and the reverse perplexity hang on the number of sentences, so that only the second column
    says what a perfect model would have. `length_distance` is the mean number of tokens by which the one's sentences
    would have to grow or shrink to be as long as the other's; two sets of one source have `length_distance_floor`
    on average.
    """

    num_sentences: int
    ngram_order: int
    samples: SampleFigures
    corpus: SampleFigures
    length_distance: Estimate
    length_distance_floor: float


def measure_prior_samples(trained: Trained, num_samples: int = 2000, seed: int = 0) -> PriorSamples:
    """Draw z ~ p(z) and words ~ p(x|z), at temperature 1 and uncut, and hold them against the validation split.

    There are no more samples than validation sentences. A sample is encoded again as a sentence of the corpus would
    be: one that does not end within `max_length` is cut there. Raises ValueError where that leaves fewer than two.
    """
    splits, tokenizer, corpus = trained.splits, trained.tokenizer, trained.recipe.corpus
    num_samples = min(num_samples, len(splits.valid))
    samples = encode_sentences(sample(trained, num_samples, Sampling(), seed), tokenizer, corpus.max_length)
    order = np.random.default_rng(seed).permutation(len(splits.valid))
    held_out = splits.valid.select(order[:num_samples])
    is_tokenised = corpus.tokenizer.kind == "word"

    def words(sentences: Sentences) -> list[list[str]]:
        texts = [tokenizer.decode(sentences[i].tolist()) for i in range(len(sentences))]
        return split_words(texts, is_tokenised=is_tokenised)

    trained_on = NgramModel.fit(splits.train, len(tokenizer), NGRAM_ORDER)
    distance, floor = length_distance(samples.lengths, held_out.lengths)
    return PriorSamples(
        num_sentences=num_samples,
        ngram_order=NGRAM_ORDER,
        samples=sample_figures(samples, words(samples), splits.train, splits.test, trained_on),
        corpus=sample_figures(held_out, words(held_out), splits.train, splits.test, trained_on),
        length_distance=distance,
        length_distance_floor=floor,
    )


def sample_figures(
    sentences: Sentences, words: Sequence[Sequence[str]], train: Sentences, test: Sentences, trained_on: NgramModel
) -> SampleFigures:
    """Every figure of a set of sentences, given as ids and as words; `trained_on` is the training split's model."""
    num_tokens = torch.as_tensor(sentences.lengths, dtype=torch.float64) - 1
    counts = NgramCounts.of(words)
    return SampleFigures(
        tokens_per_sentence=mean_estimate(num_tokens),
        self_bleu=self_bleu(counts),
        distinct_1=distinct_ngrams(counts, 1),
        distinct_2=distinct_ngrams(counts, 2),
        copies=copied_share(sentences, train),
        forward_ppl=perplexity(trained_on.nll(sentences), num_tokens),
        reverse_ppl=reverse_perplexity(sentences, test, trained_on.num_ids),
    )


def copied_share(sentences: Sentences, train: Sentences) -> Estimate:
    """The share of the sentences that are, id by id, a sentence of the training split."""
    seen = {tuple(train[i].tolist()) for i in range(len(train))}
    return share_estimate(torch.tensor([tuple(sentences[i].tolist()) in seen for i in range(len(sentences))]))


def reverse_perplexity(sentences: Sentences, test: Sentences, num_ids: int) -> Estimate:
    """The perplexity of the test split under an n-gram model of the sentences; its interval speaks of both sets.

    Reference: Zhao et al. 2018, "Adversarially Regularized Autoencoders" (with other language models).
    """

    def nats_per_token(kept: Int64[np.ndarray, " M"], kept_test: Int64[np.ndarray, " L"]) -> float:
        scored = test.select(kept_test)
        model = NgramModel.fit(sentences.select(kept), num_ids, NGRAM_ORDER)
        return model.nll(scored).sum().item() / scored.num_scored_tokens

    return exponential(jackknife_estimate(nats_per_token, len(sentences), len(test)))


def length_distance(first: Int64[np.ndarray, " N"], second: Int64[np.ndarray, " M"]) -> tuple[Estimate, float]:
    r"""Wasserstein-1 between two sets of lengths, \(\sum_l |F(l) - G(l)|\), and what it is for two sets of one source.

    The latter by the normal approximation to \(F(l) - G(l)\), whose variance is then \(H(1 - H)(1/N + 1/M)\), H the
    distribution of both sets together: \(\mathbb{E}|F - G| = \sqrt{2/\pi}\) standard deviations.
    """
    lengths = np.arange(max(first.max(), second.max()))

    def share_up_to(values: Int64[np.ndarray, " K"]) -> np.ndarray:
        return np.searchsorted(np.sort(values), lengths, side="right") / len(values)

    def statistic(kept: Int64[np.ndarray, " K"], kept_second: Int64[np.ndarray, " L"]) -> float:
        return float(np.abs(share_up_to(first[kept]) - share_up_to(second[kept_second])).sum())

    pooled = share_up_to(np.concatenate([first, second]))
    deviation = np.sqrt(pooled * (1 - pooled) * (1 / len(first) + 1 / len(second)))
    found = jackknife_estimate(statistic, len(first), len(second))
    floor = math.sqrt(2 / math.pi) * float(deviation.sum())
    return Estimate(found.value, max(0.0, found.low), found.high), floor
