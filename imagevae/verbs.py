"""What the verbs do with a run of images: pictures are written as PNG, figures are returned for JSON and in lines."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from corpora.images import image_evaluation_batches, load_images
from imagevae import generation
from imagevae.completions import completions_png
from imagevae.drawing import Drawing
from imagevae.generation import simulated
from imagevae.layer_measures import layers_png
from imagevae.measuring import choose_images, digest
from imagevae.measuring import measure as measure_run
from imagevae.models import LayeredVae
from imagevae.pictures import grid_png, save_png
from imagevae.prediction import predict_folder
from imagevae.recipe import ImageRecipe
from imagevae.session import TrainedImages, open_trained_images
from imagevae.side import reads_photographs
from imagevae.strips import animated_png, strip_png
from imagevae.tables import corpus_lines, measured_lines
from latent.measures import Refinement
from latent.measures.refinement import By, Start
from latent.reporting.gap_report import GapQuestion, measure_gaps, refuse_without_bound
from latent.reporting.gaps_over_training import measure_gaps_over_training
from latent.reporting.stored_measures import save_measures
from latent.training.console import Shown

NUM_RECONSTRUCTED = 10  # test images where none is named
GAP_IMAGES_AT_ONCE = 100
NUM_COMPLETED = 8  # test images with which something is given

open_run = open_trained_images


def measure(
    trained: TrainedImages,
    *,
    samples: int,
    full: bool,
    refine: int | None,
    refine_from: Start | None,
    refine_by: By | None,
    **settings: Any,
) -> Shown:
    """Measure a run and keep what was found in it."""
    refinement = Refinement.asked(refine, refine_from, refine_by)
    found = measure_run(trained, num_samples=samples, refinement=refinement, with_samples=full, **settings)
    save_measures(trained.run, found)
    return Shown(found.figures.as_dict(), measured_lines(trained.run.name, found.figures, trained.form.class_names))


def gaps(trained: TrainedImages, **asked: Any) -> Shown:
    """How much of the bound's distance from log p(x) is the posterior family's, and how much the encoder's."""
    return measure_gaps(trained, _gap_question(trained, **asked))


def gaps_over_training(trained: TrainedImages, **asked: Any) -> Shown:
    """The same of every checkpoint that was kept."""
    return measure_gaps_over_training(trained, _gap_question(trained, **asked))


def _gap_question(trained: TrainedImages, *, split: str, limit: int, seed: int, **spent: int) -> GapQuestion:
    refuse_without_bound(trained, is_bound=trained.recipe.update.trains_bound)
    images = choose_images(trained, split, limit, seed)
    batches = list(image_evaluation_batches(images, GAP_IMAGES_AT_ONCE))
    examples = {"split": split, "examples": digest(images)}
    return GapQuestion.of(batches, examples, partial(simulated, trained), seed=seed, **spent)


def sample(trained: TrainedImages, *, num_samples: int, seed: int, out: Path | None, label: int | None) -> Shown:
    """Images from the prior; of a conditional model a row for each draw and a column for each class.

    A model that is given a part of each image, or a photograph, predicts test images, a row for each; one of the
    layers of photographs divides as many as there are samples asked for. One that draws in steps shows these too.
    """
    if reads_photographs(trained.recipe):
        return _divide(trained, num_samples, seed, out, label)
    if trained.form.has_context:
        return _complete(trained, num_samples, seed, out, label)
    images, labels = generation.sample(trained, num_samples, seed, label)
    names = trained.form.class_names
    by_class = trained.model.num_classes > 0 and label is None
    num_columns = trained.model.num_classes if by_class else math.ceil(math.sqrt(num_samples))
    heads = names if by_class else ()
    path = _written(trained, out, "samples.png", grid_png(images, num_columns, column_labels=heads))
    about = {"labels": [names[number] for number in labels] if trained.model.num_classes else None}
    steps = _steps(trained, path, generation.drawing(trained, labels, seed))
    return Shown({"picture": str(path), "seed": seed, **about, **steps}, [str(path), *steps.values()])


def _steps(trained: TrainedImages, path: Path, drawing: Drawing | None) -> dict[str, str]:
    """Beside the picture at `path` how it was drawn, of a model that draws in steps."""
    if drawing is None:
        return {}
    strip = save_png(path.with_stem(f"{path.stem}-steps"), strip_png(drawing, trained.form))
    animation = save_png(path.with_stem(f"{path.stem}-animated"), animated_png(drawing, trained.form))
    return {"steps": str(strip), "animation": str(animation)}


def _complete(trained: TrainedImages, num_samples: int, seed: int, out: Path | None, label: int | None) -> Shown:
    """Some test images, what is given of them, and what is predicted of the rest."""
    generation.chosen_labels(trained, num_samples, label)
    indices = list(range(min(NUM_COMPLETED, len(trained.splits.test))))
    picture = completions_png(trained, generation.images_of_test(trained, indices), num_samples, seed)
    path = _written(trained, out, "samples.png", picture)
    return Shown({"picture": str(path), "seed": seed, "images": indices}, [str(path)])


def _divide(trained: TrainedImages, num_samples: int, seed: int, out: Path | None, label: int | None) -> Shown:
    """The first test photographs, masks and layers of each."""
    generation.chosen_labels(trained, num_samples, label)
    assert isinstance(trained.model, LayeredVae)
    indices = list(range(min(num_samples, len(trained.splits.test))))
    picture = layers_png(trained.model, generation.images_of_test(trained, indices).to(trained.device), seed)
    path = _written(trained, out, "samples.png", picture)
    return Shown({"picture": str(path), "seed": seed, "images": indices}, [str(path)])


def predict(trained: TrainedImages, *, images: Path, out: Path, seed: int) -> Shown:
    """Masks of the photographs in a folder, and why others have none."""
    found = predict_folder(trained, images, out, seed)
    lines = [f"{len(found.written):,} masks in {out}", *(f"left out: {reason}" for reason in found.left_out)]
    return Shown({"masks": [str(path) for path in found.written], "left_out": list(found.left_out)}, lines)


def reconstruct(trained: TrainedImages, *, examples: tuple[str, ...], seed: int, out: Path | None) -> Shown:
    """Test images above what is decoded from their posterior means."""
    indices = _numbers(examples) or list(range(min(NUM_RECONSTRUCTED, len(trained.splits.test))))
    batch = generation.images_of_test(trained, indices)
    found = generation.reconstruct(trained, batch, seed)
    rows = ("image", trained.model.shown_as)
    both = torch.cat([batch.pixels, found])
    heads = [str(index) for index in indices]
    path = _written(
        trained, out, "reconstructions.png", grid_png(both, len(indices), row_labels=rows, column_labels=heads)
    )
    return Shown({"picture": str(path), "images": indices}, [str(path)])


def interpolate(
    trained: TrainedImages, *, first: str, last: str, steps: int, path: str, seed: int, out: Path | None
) -> Shown:
    """A walk from one test image to another: a row of decoded images."""
    indices = _numbers((first, last))
    found = generation.interpolate(trained, generation.images_of_test(trained, indices), steps, path)
    picture = _written(trained, out, "interpolation.png", grid_png(found, steps))
    return Shown({"picture": str(picture), "images": indices, "kind": path, "steps": steps}, [str(picture)])


def statistics(recipe: ImageRecipe) -> Shown:
    """Sizes, classes and pixels of a corpus."""
    splits = load_images(recipe.corpus)
    return Shown(*corpus_lines(splits))


def prepare(recipe: ImageRecipe) -> Shown:
    """Read the corpus: images need no preparing, so this says whether they can be used."""
    sizes = {name: len(split) for name, split in load_images(recipe.corpus).by_name().items()}
    return Shown(sizes, [f"{' / '.join(f'{size:,}' for size in sizes.values())} images ready"])


def _numbers(texts: tuple[str, ...]) -> list[int]:
    """Numbers of test images. Raises UsageError for what is none."""
    for text in texts:
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise click.UsageError(f"{text!r}: of an image run, give numbers of test images, from 0 on")
    return [int(text) for text in texts]


def _written(trained: TrainedImages, out: Path | None, name: str, content: bytes) -> Path:
    """The picture, at the path asked for or in the run's folder `samples`."""
    if out is not None:
        return save_png(out, content)
    return trained.run.write(f"samples/{name}", content)
