"""`textvae measure`: everything that is known of a run on a split, each figure with its 95 % interval."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from corpora import Sentences, evaluation_batches
from latent.measures import (
    Estimate,
    SplitTerms,
    active_units,
    encode_split,
    importance_weighted,
    judge,
    mean_estimate,
    mutual_information,
    ratio_estimate,
    shuffled_gain,
)
from latent.training import Run
from textvae.decoding import Greedy
from textvae.generation import decode_texts
from textvae.reconstruction import score_reconstructions
from textvae.session import TOKENS_AT_ONCE, Trained

ROWS_AT_ONCE = 2048  # draws times sentences in one call of the decoder


@dataclass(frozen=True)
class Measured:
    """The figures of a split, and what stands behind them for each of its N sentences, in nats."""

    figures: "Measures"
    per_sentence: dict[str, Float[Tensor, " N"]]


@dataclass(frozen=True)
class Measures:
    """What a run is worth on a split. Nats per sentence, but for counts, perplexity, BLEU and shares."""

    split: str
    sentences_digest: str
    num_sentences: int
    num_samples: int
    seed: int
    checkpoint: str
    elbo: Estimate
    reconstruction: Estimate
    kl: Estimate
    kl_per_dimension: tuple[float, ...]
    mutual_information: Estimate
    mutual_information_ceiling: float
    active_units: Estimate
    active_units_at_0_001: int
    active_units_at_0_1: int
    nll: Estimate
    effective_sample_size: Estimate
    ppl: Estimate
    tokens_per_sentence: Estimate
    vocabulary_size: Estimate
    shuffled_gain: Estimate
    bleu: Estimate
    exact_match: Estimate
    verdict: str
    verdict_reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: each figure an object with `value`, `low` and `high`."""
        return asdict(self)


def measure(
    trained: Trained, split: str = "test", num_samples: int = 100, limit: int | None = None, seed: int = 0
) -> Measured:
    """Measure a run on a split, or on the first `limit` sentences of it in a random order that is a function of `seed`.

    Raises ValueError for an unknown or empty split and for fewer than one importance sample.
    """
    sentences = _sentences(trained, split, limit, seed)
    batches = list(evaluation_batches(sentences, TOKENS_AT_ONCE))
    model, device = trained.model, trained.device
    terms = encode_split(model, batches, device, seed)
    weighted = importance_weighted(model, batches, device, num_samples, rows_at_once=ROWS_AT_ONCE, seed=seed)
    information = mutual_information(terms.posterior, terms.z)
    units = active_units(terms.posterior.mean.cpu(), seed)
    gain = shuffled_gain(model, batches, terms, device, seed)
    verdict = judge(information, units.count, gain)
    decoded = decode_texts(trained, terms.posterior.mean, Greedy(), seed)
    originals = [trained.tokenizer.decode(sentences[i].tolist()) for i in range(len(sentences))]
    matched = score_reconstructions(decoded, originals, is_tokenised=trained.recipe.corpus.tokenizer.kind == "word")
    num_tokens = torch.as_tensor(sentences.lengths, dtype=torch.float64) - 1
    figures = Measures(
        split=split,
        sentences_digest=digest(sentences),
        num_sentences=len(sentences),
        num_samples=num_samples,
        seed=seed,
        checkpoint=trained.checkpoint.path.name,
        elbo=mean_estimate(terms.elbo),
        reconstruction=mean_estimate(terms.reconstruction),
        kl=mean_estimate(terms.kl),
        kl_per_dimension=_kl_per_dimension(terms),
        mutual_information=information,
        mutual_information_ceiling=math.log(len(sentences)),
        active_units=units.count,
        active_units_at_0_001=units.count_at_0_001,
        active_units_at_0_1=units.count_at_0_1,
        nll=mean_estimate(weighted.nll),
        effective_sample_size=mean_estimate(weighted.effective_sample_size),
        ppl=perplexity(weighted.nll, num_tokens),
        tokens_per_sentence=_exact(num_tokens.mean().item()),
        vocabulary_size=_exact(trained.tokenizer.vocabulary_size),
        shuffled_gain=gain,
        bleu=matched.bleu,
        exact_match=matched.exact_match,
        verdict=verdict.name,
        verdict_reasons=verdict.reasons,
    )
    per_sentence = {
        "elbo": terms.elbo,
        "reconstruction": terms.reconstruction,
        "kl": terms.kl,
        "nll": weighted.nll,
        "num_tokens": num_tokens,
    }
    return Measured(figures, per_sentence)


def digest(sentences: Sentences) -> str:
    """Names the encoded sentences: two runs whose digests agree were measured on the same ids."""
    content = hashlib.sha256(np.ascontiguousarray(sentences.tokens, dtype=np.int64))
    content.update(np.ascontiguousarray(sentences.offsets))
    return content.hexdigest()[:16]


def perplexity(nll: Float[Tensor, " N"], num_tokens: Float[Tensor, " N"]) -> Estimate:
    """exp(Σ nll / Σ tokens), words and `</s>` counted; its interval is the exponential of the ratio's."""
    ratio = ratio_estimate(nll, num_tokens)
    return Estimate(math.exp(ratio.value), math.exp(ratio.low), math.exp(ratio.high))


def _exact(value: float) -> Estimate:
    """A count of the split itself: its interval is the value."""
    return Estimate(value, value, value)


def _kl_per_dimension(terms: SplitTerms) -> tuple[float, ...]:
    if terms.kl_per_dimension is None:
        return ()
    return tuple(terms.kl_per_dimension.double().mean(0).tolist())


def _sentences(trained: Trained, split: str, limit: int | None, seed: int) -> Sentences:
    splits = trained.splits().by_name()
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
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    run.write(f"measures/{split}.parquet", buffer.getvalue().to_pybytes())
    run.write(f"measures/{split}.json", json.dumps(found.figures.as_dict(), indent=1) + "\n")
