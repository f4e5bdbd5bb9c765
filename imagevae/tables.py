"""Tables of image runs and image corpora for the terminal."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from corpora.images import ImageSplits
from imagevae.layer_measures import LayerMeasures
from imagevae.likelihoods import NO_LIKELIHOOD
from imagevae.measuring import ImageMeasures
from imagevae.sample_quality import SampleQuality
from imagevae.segmentation import MaskMeasures
from imagevae.structured import ConditionalMeasures
from latent.reporting import (
    BOUND_ROWS,
    NLL_ROWS,
    OF_BOUND,
    REFINED_ROWS,
    Rows,
    TextTable,
    measures_table,
    shown,
    table_lines,
    unless_lacking,
    verdict_lines,
)

FACT_ROWS: Rows[ImageMeasures] = {
    "binarisation": lambda m: (
        m.binarisation + (f" (seed {m.binarisation_seed})" if m.binarisation == "dynamic" else "")
    ),
    "likelihood": lambda m: "none: the loss is no bound" if m.likelihood == "none" else m.likelihood,
    "told the class": lambda m: (
        f"one of {m.num_classes:,} (ln K = {math.log(m.num_classes):.2f})" if m.num_classes else "no"
    ),
}
CONDITIONAL_ROWS: dict[str, Callable[[ConditionalMeasures], str]] = {
    "NLL (draws of the prior)": lambda c: shown(c.nll_from_prior),
    "  at S": lambda c: ", ".join(f"{draws}: {nll.value:.2f}" for draws, nll in c.nll_from_prior_ladder.items()),
    "  effective sample size of the prior": lambda c: shown(c.effective_sample_size_from_prior, 1),
    "given to the model": lambda c: (
        f"another image of {c.context_channels} channels"
        if c.context_channels
        else f"{c.num_observed} of {c.num_observed + c.num_scored} values of an image"
    ),
    "pixels right at the prior's mean": lambda c: shown(c.accuracy_at_prior_mean, 4),
    "  by averaged probabilities": lambda c: f"{shown(c.accuracy_of_averaged, 4)} (of {c.num_predictions} draws)",
    "  by the best draw, chosen by truth": lambda c: f"{shown(c.accuracy_of_best, 4)} (of {c.num_predictions} draws)",
}
MASK_ROWS: dict[str, Callable[[MaskMeasures], str]] = {
    "IoU of the foreground, mean over images": lambda m: shown(m.foreground_iou_at_prior_mean, 4),
    "  of averaged probabilities": lambda m: shown(m.foreground_iou_of_averaged, 4),
    "  of the best draw, chosen by truth": lambda m: shown(m.foreground_iou_of_best, 4),
    "mean IoU of foreground and background": lambda m: shown(m.mean_iou_at_prior_mean, 4),
    "  mean IoU of averaged": lambda m: shown(m.mean_iou_of_averaged, 4),
    "Jaccard index of all pixels together": lambda m: shown(m.jaccard_at_prior_mean, 4),
    "  Jaccard index of averaged": lambda m: shown(m.jaccard_of_averaged, 4),
    "calibration error of averaged": lambda m: f"{shown(m.calibration_error, 4)} ({m.num_bins} bins)",
    "generalised energy distance of draws": lambda m: shown(m.energy_distance, 4),
    "  1 − IoU of a draw and the truth": lambda m: shown(m.distance_to_truth, 4),
    "  1 − IoU of two draws": lambda m: shown(m.diversity, 4),
}
LAYER_ROWS: dict[str, Callable[[LayerMeasures], str]] = {
    "IoU of E[m|x], untaught, as it is": lambda m: shown(m.assigned.as_it_is, 4),
    "  better assignment for the set, by truth": lambda m: shown(m.assigned.better_of_set, 4),
    "  better assignment for each, by truth": lambda m: shown(m.assigned.better_of_each, 4),
    "IoU of π, untaught, as it is": lambda m: shown(m.mask.as_it_is, 4),
    "  π: better for the set, by truth": lambda m: shown(m.mask.better_of_set, 4),
    "  π: better for each, by truth": lambda m: shown(m.mask.better_of_each, 4),
}


def of_conditional(cell: Callable[[ConditionalMeasures], str]) -> Callable[[ImageMeasures], str]:
    """The cell for runs that are given a part of each image; empty for the others."""
    return lambda m: cell(m.conditional) if m.conditional else ""


def of_masks(cell: Callable[[MaskMeasures], str]) -> Callable[[ConditionalMeasures], str]:
    """The cell for runs that predict masks; empty for the others."""
    return lambda c: cell(c.masks) if c.masks else ""


def of_layers(cell: Callable[[LayerMeasures], str]) -> Callable[[ImageMeasures], str]:
    """The cell for runs that divide photographs into layers; empty for the others."""
    return lambda m: cell(m.layers) if m.layers else ""


OF_EVERY_MODEL: Rows[ImageMeasures] = {
    **NLL_ROWS,
    **{name: of_conditional(cell) for name, cell in CONDITIONAL_ROWS.items()},
    **{name: of_conditional(of_masks(cell)) for name, cell in MASK_ROWS.items()},
    **{name: of_layers(cell) for name, cell in LAYER_ROWS.items()},
    **FACT_ROWS,
    "bits per dimension": lambda m: shown(m.bits_per_dimension, 4),
    **BOUND_ROWS,
    **REFINED_ROWS,
    "squared error of a pixel": lambda m: shown(m.squared_error, 4),
    "checkpoint": lambda m: m.checkpoint,
}
LACKING = (*OF_BOUND, "bits per dimension", "reconstruction")  # where nothing was trained by a likelihood

MEASURE_ROWS: Rows[ImageMeasures] = unless_lacking(OF_EVERY_MODEL, lambda m: LACKING if m.likelihood == "none" else ())


def measured_lines(name: str, measures: ImageMeasures, class_names: Sequence[str]) -> list[str]:
    """A run's figures, the verdict's reasons, what to try, and what the classifier says of samples."""
    lines = [
        *table_lines(measures_table({name: measures}, MEASURE_ROWS, "images")),
        *([f"! {NO_LIKELIHOOD}"] if measures.likelihood == "none" else []),
        "",
        *verdict_lines(measures),
    ]
    if measures.samples is not None:
        lines += ["", *sample_lines(measures.samples, class_names)]
    return lines


SHOWN = {"drawn": "draws", "expected": "images E[x|z], z drawn,"}


def sample_lines(samples: SampleQuality, class_names: Sequence[str]) -> list[str]:
    """What the classifier says of samples, with the confusion matrix of a conditional model."""
    lines = [
        f"{samples.num_samples:,} {SHOWN[samples.pixels]} of the model under the corpus' classifier, 95 % intervals",
        *(f"  {name}: {text}" for name, text in sample_facts(samples)),
    ]
    confusion = confusion_table(samples, class_names)
    return lines if confusion is None else [*lines, "", *table_lines(confusion)]


def sample_facts(samples: SampleQuality) -> list[tuple[str, str]]:
    """The figures that the classifier gives, by name."""
    facts = [("accuracy of the classifier on the test images", shown(samples.classifier_accuracy, 4))]
    if samples.conditional_accuracy is not None:
        facts.append(("draws that it takes for the class asked for", shown(samples.conditional_accuracy, 4)))
    return [*facts, ("Fréchet distance in its features, not the FID", shown(samples.frechet_distance, 2))]


def confusion_table(samples: SampleQuality, class_names: Sequence[str]) -> TextTable | None:
    """A row for each class asked for, a column for each that its draws were taken for; of conditional models alone."""
    if samples.confusion is None:
        return None
    rows = tuple((name, *map(str, row)) for name, row in zip(class_names, samples.confusion, strict=True))
    return TextTable("draws by the class asked for (rows) and the one seen (columns)", ("", *class_names), rows)


def corpus_lines(splits: ImageSplits) -> tuple[dict[str, Any], list[str]]:
    """Sizes, pixels and classes of a corpus, for JSON and in lines."""
    by_name = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    counts = {
        name: [] if split.labels is None else np.bincount(split.labels, minlength=len(splits.class_names)).tolist()
        for name, split in by_name.items()
    }
    found: dict[str, Any] = {
        "shape": list(splits.shape),
        "binarisation": splits.binarisation,
        "is_official": splits.is_official,
        "notes": list(splits.notes),
        "splits": {
            name: {
                "images": len(split),
                "mean": float(split.mean.mean()),
                "classes": dict(zip(splits.class_names, counts[name], strict=True)) if counts[name] else None,
            }
            for name, split in by_name.items()
        },
    }
    channels, height, width = splits.shape
    rows = [
        ("images", *(f"{len(split):,}" for split in by_name.values())),
        ("mean of a pixel", *(f"{split.mean.mean():.4f}" for split in by_name.values())),
    ]
    if splits.class_names:
        rows += [
            (f"class {label}", *(f"{counts[name][number]:,}" for name in by_name))
            for number, label in enumerate(splits.class_names)
        ]
    title = f"images of {channels}×{height}×{width}, binarisation {splits.binarisation}"
    return found, [*table_lines(TextTable(title, ("", *by_name), tuple(rows))), *splits.notes]
