"""`textvae measure`: everything that is known of a run on a split, each figure with its 95 % interval."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from corpora import Sentences, evaluation_batches
from latent.measures import BoundMeasures, Estimate, Measured, Precision, SplitMeasured, mean_estimate, measure_split
from textvae.decoding import Greedy
from textvae.edit_distance import reconstruction_distance
from textvae.factor_probe import MIN_SENTENCES, FactorScore, probe_factors
from textvae.generation import decode_texts
from textvae.positions import PositionGain, gain_by_position
from textvae.prior_samples import PriorSamples, measure_prior_samples
from textvae.rates import bits_per_character, perplexity
from textvae.reconstruction import score_reconstructions
from textvae.session import Trained
from textvae.side import TOKENS_AT_ONCE
from textvae.smoothness import Smoothness, measure_smoothness

ROWS_AT_ONCE = 2048  # draws times sentences in one call of the decoder


@dataclass(frozen=True, kw_only=True)
class Measures(BoundMeasures):
    """What a run is worth on a split of sentences: beside the bound, perplexity, BLEU, distances and shares.

    `excess` is what the NLL has above the truth and `factors` what a linear probe reads from z, where the corpus knows
    its own law.
    """

    excess: Estimate | None
    factors: dict[str, FactorScore] | None
    ppl: Estimate
    bits_per_character: Estimate
    tokens_per_sentence: Estimate
    vocabulary_size: Estimate
    gain_by_position: tuple[PositionGain, ...]
    gain_on_first_positions: Estimate | None
    bleu: Estimate
    exact_match: Estimate
    edit_distance: Estimate
    prior_samples: PriorSamples | None
    smoothness: Smoothness | None


def measure(
    trained: Trained,
    split: str = "test",
    num_samples: int = 100,
    limit: int | None = None,
    seed: int = 0,
    *,
    half_width: float | None = None,
    precision: Precision = "auto",
    by_decoding: bool = False,
) -> Measured[Measures]:
    """Measure a run on a split, or on the first `limit` sentences of it in a random order that is a function of `seed`.

    With `half_width`, in nats, draws stop where the noise in the NLL is within it; they are weighed in `precision`.
    `by_decoding` adds what needs many sentences decoded: samples of the prior against the corpus, and the smoothness of
    interpolations, which a model without a latent variable has none of. Raises ValueError for an unknown split and
    fewer than one sample, NotFiniteError where a sentence has no finite likelihood.
    """
    sentences, rows = choose_sentences(trained, split, limit, seed)
    batches = list(evaluation_batches(sentences, TOKENS_AT_ONCE))
    model, device = trained.model, trained.device
    found = measure_split(
        model,
        batches,
        device,
        num_samples,
        half_width=half_width,
        rows_at_once=ROWS_AT_ONCE,
        seed=seed,
        precision=precision,
    )
    gains = gain_by_position(model, batches, found.terms, device, seed)
    means, nll = found.terms.posterior.mean, found.weighted.nll
    originals = [trained.tokenizer.decode(sentences[i].tolist()) for i in range(len(sentences))]
    num_tokens = torch.as_tensor(sentences.lengths, dtype=torch.float64) - 1
    figures = Measures(
        split=split,
        examples_digest=digest(sentences),
        num_examples=len(sentences),
        num_samples=num_samples,
        half_width=half_width,
        seed=seed,
        checkpoint=trained.checkpoint.path.name,
        tokens_per_sentence=_exact(num_tokens.mean().item()),
        vocabulary_size=_exact(trained.tokenizer.vocabulary_size),
        ppl=perplexity(nll, num_tokens),
        bits_per_character=bits_per_character(nll, originals),
        gain_by_position=gains.positions,
        gain_on_first_positions=gains.first_share,
        prior_samples=measure_prior_samples(trained, seed=seed) if by_decoding else None,
        smoothness=measure_smoothness(trained, means, seed=seed) if by_decoding and model.latent_size > 0 else None,
        **found.figures(gains.shuffled, gains.prior, seed),
        **_of_truth(trained, split, rows, originals, found, seed),
        **_of_decoding(trained, means, originals, seed),
    )
    return Measured(figures, {**found.per_example, "num_tokens": num_tokens})


def _of_truth(
    trained: Trained,
    split: str,
    rows: Int64[np.ndarray, " N"],
    originals: Sequence[str],
    found: SplitMeasured,
    seed: int,
) -> dict[str, Any]:
    """What the corpus knows of its own law: how far the NLL is above the truth, and what z says of the factors."""
    corpus = trained.recipe.corpus
    log_probs, factors = corpus.log_probs(originals), corpus.factors()
    excess = None if log_probs is None else _excess(found.weighted.nll, torch.from_numpy(np.asarray(log_probs)))
    if factors is None or len(rows) < MIN_SENTENCES or trained.model.latent_size == 0:
        return {"excess": excess, "factors": None}
    values = {name: [column[row] for row in rows] for name, column in factors[split].items()}
    return {"excess": excess, "factors": probe_factors(found.terms.posterior.mean.cpu(), values, seed)}


def _excess(nll: Float[Tensor, " N"], log_probs: Float[Tensor, " N"]) -> Estimate:
    """Mean NLL − entropy over the same sentences; undefined (nan) where one of them has a word that is <unk>.

    The probability of <unk> is that of many words together, so that the difference would be one of two laws.
    """
    if not log_probs.isfinite().all():
        return Estimate(math.nan, math.nan, math.nan)
    return mean_estimate(nll + log_probs)


def _of_decoding(trained: Trained, means: Float[Tensor, "N Z"], originals: Sequence[str], seed: int) -> dict[str, Any]:
    """How much of a sentence comes back from its posterior mean?"""
    is_tokenised = trained.recipe.corpus.tokenizer.kind == "word"
    decoded = decode_texts(trained, means, Greedy(), seed)
    matched = score_reconstructions(decoded, originals, is_tokenised=is_tokenised)
    return {
        "bleu": matched.bleu,
        "exact_match": matched.exact_match,
        "edit_distance": reconstruction_distance(decoded, originals, is_tokenised=is_tokenised),
    }


def digest(sentences: Sentences) -> str:
    """Names the encoded sentences: two runs whose digests agree were measured on the same ids."""
    content = hashlib.sha256(np.asarray(sentences.tokens, dtype=np.int64).tobytes())
    content.update(sentences.offsets.tobytes())
    return content.hexdigest()[:16]


def _exact(value: float) -> Estimate:
    """A count of the split itself: its interval is the value."""
    return Estimate(value, value, value)


def choose_sentences(
    trained: Trained, split: str, limit: int | None, seed: int
) -> tuple[Sentences, Int64[np.ndarray, " N"]]:
    """A split of the run's corpus, or `limit` sentences of it, and their places in the split."""
    splits = trained.splits.by_name()
    if split not in splits:
        raise ValueError(f"--split {split}: no such split; there are {', '.join(splits)}")
    sentences = splits[split]
    if limit is None or limit >= len(sentences):
        return sentences, np.arange(len(sentences))
    rows = torch.randperm(len(sentences), generator=torch.Generator().manual_seed(seed))[:limit].numpy()
    return sentences.select(rows), rows
