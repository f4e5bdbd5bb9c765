"""What a report shows of a run, and how a trained run is made to speak for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64

from corpora import UNK, Sentences
from latent.measures import Estimate
from textvae.decoding import Greedy, Sampling
from textvae.generation import Step, interpolate, posterior_of, reconstruct, sample
from textvae.latent_map import NUM_POINTS, LatentMap, latent_map
from textvae.measuring import Measures
from textvae.session import Trained

NUM_SAMPLES = 8
NUM_STEPS = 7  # of an interpolation
NUM_SENTENCES = 5
MAX_TOKENS = 24  # of a sentence that is shown: one that a reader takes in at a glance


@dataclass(frozen=True)
class RunReport:
    """What the report shows of a run. `seconds` is the time that its training took, where that is known.

    `gain_by_position` has what z is worth to the decoder at each position, in nats; without it no such figure is shown.
    """

    name: str
    metrics: tuple[dict[str, Any], ...]
    measures: Measures
    samples: tuple[str, ...]
    reconstructions: tuple[tuple[str, str], ...]
    interpolation: tuple[Step, ...]
    seconds: float | None = None
    latent_map: LatentMap | None = None
    gain_by_position: Mapping[int, Estimate] = field(default_factory=dict)


def describe_run(
    trained: Trained,
    name: str,
    measures: Measures,
    texts: Sequence[str] | None = None,
    ends: tuple[str, str] | None = None,
    seconds: float | None = None,
) -> RunReport:
    """Let a run sample, reconstruct `texts` and walk between `ends`, and map its latent means.

    Without `texts` they are sentences of the split that was measured, the same for all runs that share it, and the
    ends the first and the last of them.
    """
    splits = trained.splits
    sentences = splits.by_name()[measures.split]
    order = np.random.default_rng(0).permutation(len(sentences))
    if texts is None:
        texts = shown_sentences(trained, sentences, order)
    if ends is None and len(texts) > 1:
        ends = texts[0], texts[-1]
    mapped = sentences.select(order[:NUM_POINTS])
    return RunReport(
        name=name,
        metrics=tuple(trained.run.metrics()),
        measures=measures,
        samples=tuple(sample(trained, NUM_SAMPLES, Sampling())),
        reconstructions=tuple(zip(texts, reconstruct(trained, texts, Greedy()), strict=True)) if texts else (),
        interpolation=tuple(interpolate(trained, *ends, NUM_STEPS, "linear", Greedy())) if ends else (),
        seconds=seconds,
        latent_map=latent_map(
            posterior_of(trained, mapped).mean, mapped.lengths - 1, mapped.labels, splits.label_names
        ),
        gain_by_position={place.first: place.shuffled for place in measures.gain_by_position},
    )


def shown_sentences(trained: Trained, sentences: Sentences, order: Int64[np.ndarray, " N"]) -> list[str]:
    """A few different sentences of the split in the given order: none long, none with an unknown word."""
    found: dict[str, None] = {}
    for index in order.tolist():
        ids = sentences[index][1:-1]
        if 0 < len(ids) <= MAX_TOKENS and not (ids == UNK).any():
            found[trained.tokenizer.decode(ids.tolist())] = None
        if len(found) == NUM_SENTENCES:
            break
    return list(found)
