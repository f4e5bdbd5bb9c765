"""Runs of images, as they are compared and reported."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from imagevae.likelihoods import why_not_comparable
from imagevae.measuring import OF_LIKELIHOOD, ImageMeasures, measure
from imagevae.run_report import Pictures, describe_run, sections
from imagevae.session import TrainedImages, open_trained_images
from imagevae.side import IMAGE
from imagevae.tables import FACT_ROWS
from latent.measures import Estimate
from latent.reporting.comparability import other_examples
from latent.reporting.run_kind import BOUND_FIGURES, BY_EXAMPLE, NLL_FIGURE, Row, RunKind
from latent.reporting.stored_measures import TOLERANCE


def reasons(one: ImageMeasures, other: ImageMeasures, changed: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Why two runs were not measured on the same pixels, or by the same likelihood of them."""
    found: tuple[str, ...]
    seeds = one.binarisation_seed, other.binarisation_seed
    if one.binarisation != other.binarisation:
        found = (f"other binarisation: {one.binarisation} against {other.binarisation}",)
    elif one.examples_digest != other.examples_digest and seeds[0] != seeds[1]:
        found = (f"other binarisation: {one.binarisation} by seed {seeds[0]} against seed {seeds[1]}",)
    else:
        found = other_examples(one, other, changed, "images", "other images: the pixels differ")
    if one.likelihood != other.likelihood and not unlike(one, other):
        found = (*found, f"other likelihood: {one.likelihood} against {other.likelihood}")
    return found


def unlike(one: ImageMeasures, other: ImageMeasures) -> tuple[str, ...]:
    """Why figures of a likelihood may not be compared, others though they may: one of the two runs has none."""
    return why_not_comparable(one.likelihood, other.likelihood)


def overlaps(figures: ImageMeasures) -> dict[str, Estimate]:
    """What runs that predict masks have beside the others: overlaps of the foreground, image by image."""
    masks = figures.conditional and figures.conditional.masks
    if not masks:
        return {}
    return {
        "foreground_iou_at_prior_mean": masks.foreground_iou_at_prior_mean,
        "foreground_iou_of_averaged": masks.foreground_iou_of_averaged,
    }


def problem(figures: ImageMeasures, columns: Mapping[str, Float[np.ndarray, " N"]]) -> str | None:
    """What is wrong with stored bits and squared errors, if anything."""
    if not (columns["squared_error"] >= 0).all():
        return "column squared_error: a square is not below 0"
    nll, bits = columns["nll"], columns["bits_per_dimension"]
    largest = np.abs(np.where(np.isfinite(nll), nll, 0.0)).argmax()
    if not np.allclose(bits * nll[largest], nll * bits[largest], rtol=TOLERANCE, equal_nan=True):
        return "column bits_per_dimension: it is not in proportion to column nll"
    return None


KIND: RunKind[TrainedImages, ImageMeasures, Pictures] = RunKind(
    side=IMAGE,
    examples="images",
    measures=ImageMeasures,
    rows={
        **NLL_FIGURE,
        "bits_per_dimension": Row("bits per dimension", 4),
        **BOUND_FIGURES,
        "squared_error": Row("squared error of a pixel", 4),
    },
    rows_of_some={
        "foreground_iou_at_prior_mean": Row("IoU of the foreground, mean over images", 4),
        "foreground_iou_of_averaged": Row("IoU of averaged probabilities", 4),
    },
    of_some=overlaps,
    by_example=(*BY_EXAMPLE, "bits_per_dimension", "squared_error"),
    of_likelihood=OF_LIKELIHOOD,
    unlike=unlike,
    facts=FACT_ROWS,
    meanings={
        "Bits per dimension": "The NLL in bits per value of an image. Compare at equal binarisation and likelihood.",
        "Squared error": "Of a pixel between 0 and 1 and its expectation, decoded from the posterior mean and, by an "
        "autoregressive decoder, the pixels before it.",
        "Told the class": "Then all of p(x) is p(x|y), whose NLL is lower by what y tells: by ln K at most.",
    },
    problem=problem,
    reasons=reasons,
    open_run=open_trained_images,
    measure=measure,
    describe=describe_run,
    sections=sections,
)
