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
from latent.measures import (
    UNDEFINED,
    BoundMeasures,
    Estimate,
    Measured,
    Precision,
    Refinement,
    check_refinement,
    mean_estimate,
    measure_split,
    ratio_estimate,
)
from textvae.decoding import Greedy
from textvae.edit_distance import reconstruction_distance
from textvae.factor_probe import MIN_SENTENCES, FactorScore, probe_factors
from textvae.generation import decode_texts
from textvae.likelihood import Likelihood
from textvae.positions import PositionGain, gain_by_position
from textvae.prior_samples import PriorSamples, measure_prior_samples
from textvae.rates import bits_per_character, perplexity
from textvae.reconstruction import score_reconstructions
from textvae.retrieval import retrieved_words
from textvae.session import Trained
from textvae.side import TOKENS_AT_ONCE
from textvae.smoothness import Smoothness, measure_smoothness

ROWS_AT_ONCE = 2048  # draws times sentences in one call of the decoder


@dataclass(frozen=True, kw_only=True)
class Measures(BoundMeasures):
    """What a run is worth on a split of sentences: beside the bound, perplexity, BLEU, distances and shares.

    `excess` is what the NLL has above the truth and `factors` what a linear probe reads from z, where the corpus knows
    its own law. Perplexity and bits per character are undefined (nan) unless the likelihood is of words, the bound and
    the NLL too where there is none. `space_digest` names the vectors that a likelihood of vectors is of.
    """

    likelihood: Likelihood
    space_digest: str
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
    retrieval_accuracy: Estimate
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
    refinement: Refinement | None = None,
    by_decoding: bool = False,
) -> Measured[Measures]:
    """Measure a run on a split, or on the first `limit` sentences of it in a random order that is a function of `seed`.

    With `half_width`, in nats, draws stop where the noise in the NLL is within it; they are weighed in `precision`.
    With a `refinement` the bound of refined posteriors is measured beside it.
    `by_decoding` adds what needs many sentences decoded: samples of the prior against the corpus, and the smoothness of
    interpolations, which a model without a latent variable has none of. Raises ValueError for an unknown split and
    fewer than one sample, NotFiniteError where a sentence has no finite likelihood.
    """
    sentences, rows = choose_sentences(trained, split, limit, seed)
    batches = list(evaluation_batches(sentences, TOKENS_AT_ONCE))
    model, device = trained.model, trained.device
    likelihood = trained.recipe.model.likelihood
    check_refinement(refinement, has_bound=likelihood != "none")
    given: dict[str, Any] = {"half_width": half_width, "seed": seed, "precision": precision, "refinement": refinement}
    found = measure_split(model, batches, device, num_samples, rows_at_once=ROWS_AT_ONCE, **given)
    gains = gain_by_position(model, batches, found.terms, device, seed)
    means, nll = found.terms.posterior.mean, found.weighted.nll
    originals = [trained.tokenizer.decode(sentences[i].tolist()) for i in range(len(sentences))]
    num_tokens = torch.as_tensor(sentences.lengths, dtype=torch.float64) - 1
    decoded = decode_texts(trained, means, Greedy(), seed)
    retrieved = retrieved_words(model, batches, means, device, seed)
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
        likelihood=likelihood,
        space_digest=digest_of_given(trained),
        retrieval_accuracy=ratio_estimate(retrieved, num_tokens),
        gain_by_position=gains.positions,
        gain_on_first_positions=gains.first_share,
        prior_samples=measure_prior_samples(trained, seed=seed) if by_decoding else None,
        smoothness=measure_smoothness(trained, means, seed=seed) if by_decoding and model.latent_size > 0 else None,
        **(found.figures(gains.shuffled, gains.prior, seed) | _of_likelihood(likelihood, nll, originals, num_tokens)),
        **_of_truth(trained, split, rows, originals, nll, means, seed),
        **_of_decoding(trained, decoded, originals),
    )
    exact = torch.tensor([a == b for a, b in zip(decoded, originals, strict=True)], dtype=torch.float64)
    # over the mean of T, so that its mean is the share of all tokens
    of_text = {"num_tokens": num_tokens, "retrieval_accuracy": retrieved / num_tokens.mean(), "exact_match": exact}
    undefined = torch.full_like(nll, math.nan)
    lacking = {"nll": undefined, "elbo": undefined} if likelihood == "none" else {}
    return Measured(figures, {**found.per_example, **lacking, **of_text})


def _of_likelihood(
    likelihood: Likelihood, nll: Float[Tensor, " N"], originals: Sequence[str], num_tokens: Float[Tensor, " N"]
) -> dict[str, Any]:
    """What hangs on what the likelihood is of; the figures that it does not have are undefined."""
    if likelihood == "words":
        return {"ppl": perplexity(nll, num_tokens), "bits_per_character": bits_per_character(nll, originals)}
    undefined: dict[str, Any] = {"ppl": UNDEFINED, "bits_per_character": UNDEFINED}
    if likelihood == "none":
        undefined |= {"elbo": UNDEFINED, "nll": UNDEFINED, "nll_ladder": {}, "nll_bias": None}
    return undefined


def _of_truth(
    trained: Trained,
    split: str,
    rows: Int64[np.ndarray, " N"],
    originals: Sequence[str],
    nll: Float[Tensor, " N"],
    means: Float[Tensor, "N Z"],
    seed: int,
) -> dict[str, Any]:
    """What the corpus knows of its own law: how far the NLL is above the truth, and what z says of the factors."""
    corpus = trained.recipe.corpus
    log_probs, factors = corpus.log_probs(originals), corpus.factors()
    has_truth = log_probs is not None and trained.recipe.model.likelihood == "words"
    excess = _excess(nll, torch.from_numpy(np.asarray(log_probs))) if has_truth else None
    if factors is None or len(rows) < MIN_SENTENCES or trained.model.latent_size == 0:
        return {"excess": excess, "factors": None}
    values = {name: [column[row] for row in rows] for name, column in factors[split].items()}
    return {"excess": excess, "factors": probe_factors(means.cpu(), values, seed)}


def _excess(nll: Float[Tensor, " N"], log_probs: Float[Tensor, " N"]) -> Estimate:
    """Mean NLL − entropy over the same sentences; undefined (nan) where one of them has a word that is <unk>.

    The probability of <unk> is that of many words together, so that the difference would be one of two laws.
    """
    if not log_probs.isfinite().all():
        return UNDEFINED
    return mean_estimate(nll + log_probs)


def _of_decoding(trained: Trained, decoded: Sequence[str], originals: Sequence[str]) -> dict[str, Any]:
    """How much of a sentence comes back from its posterior mean?"""
    is_tokenised = trained.recipe.corpus.tokenizer.kind == "word"
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


def digest_of_given(trained: Trained) -> str:
    """Names what the model was given, such as the vectors of words; empty where that is nothing."""
    state, names = trained.model.state_dict(), trained.recipe.model.given
    if not names:
        return ""
    content = hashlib.sha256()
    for name in names:
        content.update(state[name].cpu().numpy().tobytes())
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
