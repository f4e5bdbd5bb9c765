"""`textvae measure`: everything that is known of a run on a split, each figure with its 95 % interval."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from corpora import Sentences, evaluation_batches
from latent.measures import (
    Estimate,
    ImportanceWeighted,
    SplitTerms,
    active_units,
    encode_split,
    importance_weighted,
    judge,
    marginal_kl,
    mean_estimate,
    mutual_information,
    quantile_estimate,
)
from latent.training import Run
from textvae.decoding import Greedy
from textvae.edit_distance import reconstruction_distance
from textvae.generation import decode_texts
from textvae.parquet import parquet_bytes
from textvae.positions import GainByPosition, PositionGain, gain_by_position
from textvae.prior_samples import PriorSamples, measure_prior_samples
from textvae.rates import bits_per_character, perplexity
from textvae.reconstruction import score_reconstructions
from textvae.session import TOKENS_AT_ONCE, Trained
from textvae.smoothness import Smoothness, measure_smoothness

ROWS_AT_ONCE = 2048  # draws times sentences in one call of the decoder
KL_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Measured:
    """The figures of a split, and what stands behind them for each of its N sentences, in nats."""

    figures: "Measures"
    per_sentence: dict[str, Float[Tensor, " N"]]


@dataclass(frozen=True)
class Measures:
    """What a run is worth on a split. Nats per sentence, but for counts, perplexity, BLEU, distances and shares.

    `num_samples` is K, the most importance samples of a sentence; with `half_width` fewer were drawn where they were
    enough. `excess` is what the NLL has above the truth where the corpus knows its own law.
    """

    split: str
    sentences_digest: str
    num_sentences: int
    num_samples: int
    half_width: float | None
    seed: int
    checkpoint: str
    elbo: Estimate
    reconstruction: Estimate
    kl: Estimate
    kl_per_dimension: tuple[float, ...]
    kl_quantiles: dict[str, Estimate]
    mutual_information: Estimate
    mutual_information_ceiling: float
    mutual_information_is_at_ceiling: bool
    marginal_kl: Estimate
    active_units: Estimate
    active_units_at_0_001: int
    active_units_at_0_1: int
    nll: Estimate
    nll_ladder: dict[str, Estimate]
    nll_bias: float | None
    nll_has_converged: bool
    effective_sample_size: Estimate
    total_draws: int
    excess: Estimate | None
    ppl: Estimate
    bits_per_character: Estimate
    tokens_per_sentence: Estimate
    vocabulary_size: Estimate
    shuffled_gain: Estimate
    prior_gain: Estimate
    gain_by_position: tuple[PositionGain, ...]
    gain_on_first_positions: Estimate | None
    bleu: Estimate
    exact_match: Estimate
    edit_distance: Estimate
    prior_samples: PriorSamples | None
    smoothness: Smoothness | None
    verdict: str
    verdict_reasons: tuple[str, ...]
    verdict_advice: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: each figure an object with `value`, `low` and `high`; what is not finite is null."""
        found: dict[str, Any] = _finite(asdict(self))
        return found


def measure(
    trained: Trained,
    split: str = "test",
    num_samples: int = 100,
    limit: int | None = None,
    seed: int = 0,
    *,
    half_width: float | None = None,
    by_decoding: bool = False,
) -> Measured:
    """Measure a run on a split, or on the first `limit` sentences of it in a random order that is a function of `seed`.

    With `half_width`, in nats, draws stop where the NLL is known that well. `by_decoding` adds what needs many
    sentences decoded: samples of the prior against the corpus, and the smoothness of interpolations. Raises ValueError
    for an unknown split and fewer than one sample, NotFiniteError where a sentence has no finite likelihood.
    """
    sentences = choose_sentences(trained, split, limit, seed)
    batches = list(evaluation_batches(sentences, TOKENS_AT_ONCE))
    model, device = trained.model, trained.device
    terms = encode_split(model, batches, device, seed)
    weighted = importance_weighted(
        model, batches, device, num_samples, half_width=half_width, rows_at_once=ROWS_AT_ONCE, seed=seed
    )
    gains = gain_by_position(model, batches, terms, device, seed)
    originals = [trained.tokenizer.decode(sentences[i].tolist()) for i in range(len(sentences))]
    true_log_prob = trained.recipe.corpus.log_probs(originals)
    num_tokens = torch.as_tensor(sentences.lengths, dtype=torch.float64) - 1
    setting: dict[str, Any] = {
        "split": split,
        "sentences_digest": digest(sentences),
        "num_sentences": len(sentences),
        "num_samples": num_samples,
        "half_width": half_width,
        "seed": seed,
        "checkpoint": trained.checkpoint.path.name,
        "tokens_per_sentence": _exact(num_tokens.mean().item()),
        "vocabulary_size": _exact(trained.tokenizer.vocabulary_size),
        "ppl": perplexity(weighted.nll, num_tokens),
        "bits_per_character": bits_per_character(weighted.nll, originals),
        "excess": None
        if true_log_prob is None
        else mean_estimate(weighted.nll + torch.from_numpy(np.asarray(true_log_prob))),
        "prior_samples": measure_prior_samples(trained, seed=seed) if by_decoding else None,
        "smoothness": measure_smoothness(trained, terms.posterior.mean, seed=seed) if by_decoding else None,
    }
    found = _of_z(terms, gains, seed) | _of_bound(terms, weighted) | _of_decoding(trained, terms, originals, seed)
    per_sentence = {
        "elbo": terms.elbo,
        "reconstruction": terms.reconstruction,
        "kl": terms.kl,
        "nll": weighted.nll,
        "num_tokens": num_tokens,
    }
    return Measured(Measures(**setting, **found), per_sentence)


def _of_z(terms: SplitTerms, gains: GainByPosition, seed: int) -> dict[str, Any]:
    """Is z used?"""
    information = mutual_information(terms.posterior, terms.z)
    marginal = marginal_kl(terms, information).estimate
    units = active_units(terms.posterior.mean.cpu(), seed)
    verdict = judge(information.estimate, units.count, gains.shuffled, marginal)
    return {
        "mutual_information": information.estimate,
        "mutual_information_ceiling": information.ceiling,
        "mutual_information_is_at_ceiling": information.is_at_ceiling,
        "marginal_kl": marginal,
        "active_units": units.count,
        "active_units_at_0_001": units.count_at_0_001,
        "active_units_at_0_1": units.count_at_0_1,
        "shuffled_gain": gains.shuffled,
        "prior_gain": gains.prior,
        "gain_by_position": gains.positions,
        "gain_on_first_positions": gains.first_share,
        "verdict": verdict.name,
        "verdict_reasons": verdict.reasons,
        "verdict_advice": verdict.advice,
    }


def _of_bound(terms: SplitTerms, weighted: ImportanceWeighted) -> dict[str, Any]:
    """How good is the bound?"""
    per_dimension = terms.kl_per_dimension
    return {
        "elbo": mean_estimate(terms.elbo),
        "reconstruction": mean_estimate(terms.reconstruction),
        "kl": mean_estimate(terms.kl),
        "kl_per_dimension": () if per_dimension is None else tuple(per_dimension.double().mean(0).tolist()),
        "kl_quantiles": {f"{share:g}": quantile_estimate(terms.kl, share) for share in KL_QUANTILES},
        "nll": weighted.estimate,
        "nll_ladder": {str(k): mean_estimate(nll) for k, nll in weighted.ladder.items()},
        "nll_bias": weighted.bias if math.isfinite(weighted.bias) else None,
        "nll_has_converged": weighted.has_converged,
        "effective_sample_size": mean_estimate(weighted.effective_sample_size),
        "total_draws": weighted.total_draws,
    }


def _of_decoding(trained: Trained, terms: SplitTerms, originals: Sequence[str], seed: int) -> dict[str, Any]:
    """How much of a sentence comes back from its posterior mean?"""
    is_tokenised = trained.recipe.corpus.tokenizer.kind == "word"
    decoded = decode_texts(trained, terms.posterior.mean, Greedy(), seed)
    matched = score_reconstructions(decoded, originals, is_tokenised=is_tokenised)
    return {
        "bleu": matched.bleu,
        "exact_match": matched.exact_match,
        "edit_distance": reconstruction_distance(decoded, originals, is_tokenised=is_tokenised),
    }


def _finite(value: Any) -> Any:
    """The same with None for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digest(sentences: Sentences) -> str:
    """Names the encoded sentences: two runs whose digests agree were measured on the same ids."""
    content = hashlib.sha256(np.asarray(sentences.tokens, dtype=np.int64).tobytes())
    content.update(sentences.offsets.tobytes())
    return content.hexdigest()[:16]


def _exact(value: float) -> Estimate:
    """A count of the split itself: its interval is the value."""
    return Estimate(value, value, value)


def choose_sentences(trained: Trained, split: str, limit: int | None, seed: int) -> Sentences:
    """A split of the run's corpus, or `limit` sentences of it."""
    splits = trained.splits.by_name()
    if split not in splits:
        raise ValueError(f"--split {split}: no such split; there are {', '.join(splits)}")
    sentences = splits[split]
    if limit is None or limit >= len(sentences):
        return sentences
    order = torch.randperm(len(sentences), generator=torch.Generator().manual_seed(seed))
    return sentences.select(order[:limit].numpy())


def save_measures(run: Run, found: Measured) -> None:
    """Keep the measures in the run: `measures/SPLIT.json`, and `measures/SPLIT.parquet` with a row per sentence."""
    split = found.figures.split
    table = pa.table({name: values.double().numpy() for name, values in found.per_sentence.items()})
    run.write(f"measures/{split}.parquet", parquet_bytes(table))
    run.write(f"measures/{split}.json", json.dumps(asdict(found.figures), indent=1) + "\n")
