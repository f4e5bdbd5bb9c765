"""Using a trained model: sample, reconstruct, interpolate, encode. Whole batches at once, everything seeded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from corpora import UNK, Sentences, evaluation_batches, read_sentences
from corpora.texts import Texts
from latent.distributions import concatenate, take
from latent.distributions.paths import PATHS, positions
from latent.measures.split import evaluating, restore_order
from latent.training.files import check_place, write_atomically
from latent.training.parquet import parquet_bytes
from textvae.decoding import Decoding
from textvae.reconstruction import texts_of
from textvae.session import Trained
from textvae.side import TOKENS_AT_ONCE

ROWS_AT_ONCE = 1024  # sentences decoded at once


@dataclass(frozen=True)
class Step:
    """A point of an interpolation: its place between 0 and 1, its sentence, and whether that is the one before."""

    position: float
    text: str
    is_repeat: bool


def sample(trained: Trained, num_samples: int, decoding: Decoding, seed: int = 0) -> list[str]:
    """Sentences from the model's own prior: z ~ p(z), then words from p(x|z)."""
    nothing = trained.encoded([""] * num_samples).batch(np.arange(num_samples)).to(trained.device)
    with evaluating(trained.model, seed):
        z = trained.model.prior(nothing).sample()
    return decode_texts(trained, z, decoding, seed)


def reconstruct(
    trained: Trained, texts: Sequence[str], decoding: Decoding, *, seed: int = 0, from_sample: bool = False
) -> list[str]:
    """Each sentence decoded from its posterior mean, or from a draw of its posterior.

    Raises ValueError for a run without a latent variable.
    """
    _require_z(trained, "reconstruct")
    q = posterior_of(trained, trained.encode(texts))
    with evaluating(trained.model, seed):
        z = q.sample() if from_sample else q.mean
    return decode_texts(trained, z, decoding, seed)


def interpolate(
    trained: Trained, first: str, last: str, num_steps: int, path: str, decoding: Decoding, seed: int = 0
) -> list[Step]:
    """Sentences along a `linear` or `slerp` path between the posterior means of two, ends included, in one batch.

    Raises ValueError for fewer than two steps, a sentence without a known word and a run without a latent variable.
    """
    _require_z(trained, "interpolate")
    where = positions(num_steps)
    q = posterior_of(trained, trained.encode([first, last]))
    z = PATHS[path](q.mean[0], q.mean[1], num_steps)
    texts = decode_texts(trained, z, decoding, seed)
    return [Step(*point) for point in zip(where, texts, mark_repeats(texts), strict=True)]


def mark_repeats(texts: list[str]) -> list[bool]:
    """True where a text equals the one before it: a stretch of the path on which the decoder says nothing new."""
    return [text == before for text, before in zip(texts, [None, *texts], strict=False)]


def decode_texts(trained: Trained, z: Float[Tensor, "N Z"], decoding: Decoding, seed: int = 0) -> list[str]:
    """Sentences for N latent vectors."""
    generator = torch.Generator().manual_seed(seed)
    max_length = trained.recipe.corpus.max_length
    texts: list[str] = []
    for part in z.split(ROWS_AT_ONCE):
        with evaluating(trained.model, seed):
            tokens = trained.model.decode(part, decoding, max_length=max_length, generator=generator)
        texts += texts_of(tokens, trained.tokenizer)
    return texts


def posterior_of(trained: Trained, sentences: Sentences) -> Distribution:
    """q(z|x) of each sentence, in their order."""
    batches = list(evaluation_batches(sentences, TOKENS_AT_ONCE))
    with evaluating(trained.model, 0):
        parts = [trained.model.posterior(batch.to(trained.device)) for batch in batches]
    return take(concatenate(*parts), restore_order(batches).to(trained.device))


def encode_file(trained: Trained, source: Path, target: Path) -> Texts:
    """Write each sentence's posterior to a Parquet file: line, text, tokens, unknown words, mean, standard deviation.

    `num_tokens` counts `</s>`; a sentence longer than the run's max_length is encoded as far as that. Returns the
    sentences. Raises ValueError for a source that is no such text, for a run without a latent variable and, before the
    work, for a target in no folder.
    """
    _require_z(trained, "encode")
    check_place(target)
    texts = read_sentences(source)
    sentences = trained.encoded(texts.sentences)
    q = posterior_of(trained, sentences)
    table = pa.table(
        {
            "line": texts.line_numbers,
            "text": texts.sentences,
            "num_tokens": sentences.lengths - 1,
            "num_unknown": [int((sentences[i] == UNK).sum()) for i in range(len(sentences))],
            "mean": list(q.mean.cpu().numpy()),
            "standard_deviation": list(q.stddev.cpu().numpy()),
        }
    )
    write_atomically(target, parquet_bytes(table))
    return texts


def _require_z(trained: Trained, verb: str) -> None:
    if trained.model.latent_size == 0:
        raise ValueError(
            f"{trained.run.path}: {verb} needs a latent variable, and model.kind {trained.recipe.model.kind} has none; "
            "name a run of a VAE, or use sample or measure"
        )
