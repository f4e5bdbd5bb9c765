"""What a report shows of a run of sentences, and how a trained run is made to speak for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from corpora import UNK, Sentences
from latent.measures import Estimate
from latent.reporting.latent_map import NUM_POINTS, LatentMap, latent_map
from latent.reporting.page import columns, items, keys, sentence
from latent.reporting.run_report import RunReport
from latent.reporting.sections import latent_maps
from textvae.decoding import Greedy, Sampling
from textvae.gain_plot import draw_gain_by_position
from textvae.generation import Step, interpolate, posterior_of, reconstruct, sample
from textvae.measuring import Measures
from textvae.session import Trained

NUM_SAMPLES = 8
NUM_STEPS = 7  # of an interpolation
NUM_SENTENCES = 5
MAX_TOKENS = 24  # of a sentence that is shown: one that a reader takes in at a glance


@dataclass(frozen=True)
class Spoken:
    """What a run says.

    `gain_by_position` has what z is worth to the decoder at each position, in nats; without it no such figure is shown.
    """

    samples: tuple[str, ...]
    reconstructions: tuple[tuple[str, str], ...]
    interpolation: tuple[Step, ...]
    gain_by_position: Mapping[int, Estimate]


def describe_run(
    trained: Trained,
    name: str,
    measures: Measures,
    texts: Sequence[str] | None = None,
    ends: tuple[str, str] | None = None,
    seconds: float | None = None,
) -> RunReport[Spoken]:
    """Let a run sample, reconstruct `texts` and walk between `ends`, and map its latent means.

    Without `texts` they are sentences of the split that was measured, the same for all runs that share it, and the
    ends the first and the last of them. A run without a latent variable has samples alone.
    """
    sentences = trained.splits.by_name()[measures.split]
    order = np.random.default_rng(0).permutation(len(sentences))
    if texts is None:
        texts = shown_sentences(trained, sentences, order)
    if ends is None and len(texts) > 1:
        ends = texts[0], texts[-1]
    has_z = trained.model.latent_size > 0
    texts, ends = (texts, ends) if has_z else ((), None)
    return RunReport(
        name=name,
        metrics=tuple(trained.run.metrics()),
        measures=measures,
        content=Spoken(
            samples=tuple(sample(trained, NUM_SAMPLES, Sampling())),
            reconstructions=tuple(zip(texts, reconstruct(trained, texts, Greedy()), strict=True)) if texts else (),
            interpolation=tuple(interpolate(trained, *ends, NUM_STEPS, "linear", Greedy())) if ends else (),
            gain_by_position={place.first: place.shuffled for place in measures.gain_by_position},
        ),
        seconds=seconds,
        latent_map=_map(trained, sentences.select(order[:NUM_POINTS])) if has_z else None,
    )


def _map(trained: Trained, sentences: Sentences) -> LatentMap:
    means, label_names = posterior_of(trained, sentences).mean, trained.splits.label_names
    return latent_map(means, sentences.lengths - 1, "tokens", sentences.labels, label_names)


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


def sections(runs: Sequence[RunReport[Spoken]]) -> dict[str, str]:
    """The report's sections of sentences, by title."""
    names, contents = [run.name for run in runs], [run.content for run in runs]
    return {
        "Gain from z by position": _gain_by_position(names, contents),
        "Latent means": latent_maps(runs, "sentences"),
        "Samples from the prior": columns(names, [_samples(spoken) for spoken in contents]),
        "Reconstructions": columns(names, [_reconstructions(spoken) for spoken in contents]),
        "Interpolation": columns(names, [_interpolation(spoken) for spoken in contents]),
    }


def _gain_by_position(names: Sequence[str], contents: Sequence[Spoken]) -> str:
    gains = [spoken.gain_by_position for spoken in contents]
    return f'{keys(names)}\n<figure class="wide">{draw_gain_by_position(gains)}</figure>' if any(gains) else ""


def _samples(spoken: Spoken) -> str:
    return items([f"<li>{sentence(text)}</li>" for text in spoken.samples])


def _reconstructions(spoken: Spoken) -> str:
    return items(
        [
            f'<li class="pair">{sentence(original)}{sentence(decoded, is_same=decoded == original)}</li>'
            for original, decoded in spoken.reconstructions
        ]
    )


def _interpolation(spoken: Spoken) -> str:
    points = [
        f'<li class="{"repeat" if step.is_repeat else "step"}"><span class="quiet">{step.position:.2f}</span>'
        f"{sentence(step.text, is_same=step.is_repeat)}</li>"
        for step in spoken.interpolation
    ]
    return f'<div class="path">{items(points)}</div>'
