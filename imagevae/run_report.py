"""What a report shows of a run of images: pictures that a trained run draws for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from corpora.images import Images
from imagevae.completions import completions_png
from imagevae.generation import blank_batch, decode, draw, interpolate, means_of, reconstruct
from imagevae.measuring import ImageMeasures
from imagevae.pictures import grid_png
from imagevae.sample_quality import SampleQuality
from imagevae.session import TrainedImages
from imagevae.tables import confusion_table, sample_facts
from latent.measures import evaluating
from latent.reporting import TextTable
from latent.reporting.latent_map import NUM_POINTS, LatentMap, latent_map
from latent.reporting.page import columns, picture, remark, table
from latent.reporting.run_report import RunReport
from latent.reporting.sections import latent_maps

NUM_ROWS = 5  # of samples
NUM_DRAWN = 5  # samples of what is not given of an image
MOST_COLUMNS = 10  # of samples: as many classes are shown
NUM_IMAGES = 8  # reconstructed
NUM_STEPS = 7  # of an interpolation
NUM_DRAWS = 4000  # of the prior, whose quantiles the manifold goes through
NUM_PLACES = 12  # along either axis of the manifold


@dataclass(frozen=True)
class Pictures:
    """PNGs that a run has drawn; an interpolation where there is a z, a manifold where it has two dimensions.

    `classes` are the names of the columns of the samples, where the model is told classes.
    """

    samples: bytes
    classes: tuple[str, ...]
    reconstructions: bytes
    interpolation: bytes | None
    manifold: bytes | None
    judged: SampleQuality | None
    class_names: tuple[str, ...]


def describe_run(trained: TrainedImages, name: str, measures: ImageMeasures) -> RunReport[Pictures]:
    """Let a run draw, reconstruct and walk, and map its latent means.

    The images are those of the split that was measured, the same for all runs that share it.
    """
    images = trained.splits.by_name()[measures.split]
    order = np.random.default_rng(0).permutation(len(images))
    classes = trained.form.class_names[:MOST_COLUMNS] if trained.model.num_classes else ()
    has_z, given = trained.model.latent_size > 0, trained.form.has_context
    return RunReport(
        name=name,
        metrics=tuple(trained.run.metrics()),
        measures=measures,
        content=Pictures(
            samples=_completions(trained, images, order) if given else _samples(trained, len(classes)),
            classes=classes,
            reconstructions=_reconstructions(trained, images, order[:NUM_IMAGES]),
            interpolation=_interpolation(trained, images, order[:NUM_IMAGES]) if has_z else None,
            manifold=_manifold(trained) if trained.model.latent_size == 2 and not given else None,
            judged=measures.samples,
            class_names=trained.form.class_names,
        ),
        latent_map=_latent_map(trained, images.select(order[:NUM_POINTS])) if has_z else None,
    )


def _samples(trained: TrainedImages, num_classes: int) -> bytes:
    num_columns = num_classes or MOST_COLUMNS
    labels = torch.arange(NUM_ROWS * num_columns) % max(1, num_classes)
    heads = [str(number) for number in range(num_classes)]
    return grid_png(draw(trained, labels), num_columns, column_labels=heads)


def _completions(trained: TrainedImages, images: Images, order: Int64[np.ndarray, " N"]) -> bytes:
    return completions_png(trained, images.batch(order[:NUM_ROWS]), NUM_DRAWN)


def _reconstructions(trained: TrainedImages, images: Images, chosen: Int64[np.ndarray, " N"]) -> bytes:
    batch = images.batch(chosen)
    both = torch.cat([batch.pixels, reconstruct(trained, batch)])
    return grid_png(both, len(chosen), row_labels=("image", trained.model.shown_as))


def _interpolation(trained: TrainedImages, images: Images, chosen: Int64[np.ndarray, " N"]) -> bytes:
    """Two images, of different classes where there are some, with the walk between them."""
    labels = np.arange(len(images)) if images.labels is None else images.labels
    others = chosen[labels[chosen] != labels[chosen[0]]]
    ends = images.batch([int(chosen[0]), int(others[-1] if len(others) else chosen[-1])])
    walk = interpolate(trained, ends, NUM_STEPS, "linear")
    heads = ["image", *(f"{place:.2f}" for place in np.linspace(0, 1, NUM_STEPS)), "image"]
    return grid_png(torch.cat([ends.pixels[:1], walk, ends.pixels[1:]]), len(heads), column_labels=heads)


def _manifold(trained: TrainedImages) -> bytes:
    """What is shown of z at even quantiles of the prior, the first dimension from left to right, the second upwards.

    Reference: Kingma & Welling 2014, "Auto-Encoding Variational Bayes", figure 4. The quantiles are those of draws, so
    that any prior will do; a conditional model draws its first class.
    """
    first = torch.zeros(NUM_DRAWS, dtype=torch.int64)
    with evaluating(trained.model, 0):
        drawn = trained.model.prior(blank_batch(trained, first)).sample()
    shares = (torch.arange(NUM_PLACES, dtype=drawn.dtype, device=drawn.device) + 0.5) / NUM_PLACES
    across, up = torch.quantile(drawn, shares, dim=0).T
    z = torch.cartesian_prod(up.flip(0), across).flip(1)
    return grid_png(decode(trained, z, blank_batch(trained, first[: len(z)])), NUM_PLACES)


def _latent_map(trained: TrainedImages, images: Images) -> LatentMap:
    brightness = np.round(images.levels.mean((1, 2, 3), dtype=np.float64) / 2.55).astype(np.int64)
    means = means_of(trained, images)
    return latent_map(means, brightness, "% brightness", images.labels, trained.splits.class_names)


def sections(runs: Sequence[RunReport[Pictures]]) -> dict[str, str]:
    """The report's sections of images, by title."""
    names, contents = [run.name for run in runs], [run.content for run in runs]
    drawn = {
        "Samples from the prior": [_drawn_samples(one) for one in contents],
        "Reconstructions": [picture(one.reconstructions, "Images above their reconstructions") for one in contents],
        "Interpolation": [_walk(one) for one in contents],
    }
    return {
        "Latent means": latent_maps(runs, "images"),
        "Decoded manifold": _manifolds(names, contents),
        **{title: columns(names, bodies) for title, bodies in drawn.items()},
        "Samples under a classifier": _judgements(names, contents),
    }


def _judgements(names: Sequence[str], contents: Sequence[Pictures]) -> str:
    if not any(one.judged for one in contents):
        return ""
    bodies = []
    for one in contents:
        facts = [] if one.judged is None else sample_facts(one.judged)
        body = table(TextTable("", ("", ""), tuple(facts))) if facts else remark("Not judged: measure --full does it.")
        confusion = None if one.judged is None else confusion_table(one.judged, one.class_names)
        bodies.append(body + (table(confusion) if confusion else ""))
    return columns(names, bodies)


def _drawn_samples(one: Pictures) -> str:
    named = ", ".join(f"{number} {name}" for number, name in enumerate(one.classes) if name != str(number))
    key = remark(f"A column for each class: {named}") if named else ""
    return picture(one.samples, "Samples from the prior") + key


def _walk(one: Pictures) -> str:
    if one.interpolation is None:
        return remark("There is no z to walk through.")
    stays = remark("The class that the decoder is told stays that of the first image.") if one.classes else ""
    return picture(one.interpolation, "A walk between two images") + stays


def _manifolds(names: Sequence[str], contents: Sequence[Pictures]) -> str:
    if not any(one.manifold for one in contents):
        return ""
    drawn = ["" if one.manifold is None else picture(one.manifold, "Decoded manifold") for one in contents]
    return columns(names, drawn) + remark("Decoded over both dimensions of z, at even quantiles of the prior.")
