"""`textvae measure` of an image run: everything that is known of it on a split, each figure with its 95 % interval."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from corpora.images import Binarisation, ImageBatch, Images, image_evaluation_batches
from imagevae.classifier import trained_classifier
from imagevae.layer_measures import LayerMeasures, measure_layers
from imagevae.likelihoods import MeasuredLikelihood
from imagevae.models import LayeredVae
from imagevae.sample_quality import SampleQuality, measure_samples
from imagevae.session import TrainedImages
from imagevae.side import images_at_once, reads_photographs, rows_at_once
from imagevae.structured import ConditionalMeasures, measure_conditional
from latent.measures import (
    UNDEFINED,
    BoundMeasures,
    Estimate,
    Measured,
    Precision,
    Refinement,
    check_refinement,
    evaluating,
    mean_estimate,
    measure_split,
    prior_gain,
    shuffled_gain,
)

OF_LIKELIHOOD = ("nll", "elbo", "reconstruction", "bits_per_dimension")
WITHOUT_LIKELIHOOD: dict[str, Any] = {
    **dict.fromkeys((*OF_LIKELIHOOD, "effective_sample_size"), UNDEFINED),
    "nll_ladder": {},
    "nll_bias": None,
}


@dataclass(frozen=True, kw_only=True)
class ImageMeasures(BoundMeasures):
    """What a run is worth on a split of images: beside the bound, how they were binarised and what comes back.

    `bits_per_dimension` is the NLL over D ln 2 for images of D = C·H·W values. `squared_error` is the mean over these
    of (x − E[x|z])² at z = E[z|x], with x between 0 and 1; an autoregressive decoder's expectation of a pixel is given
    those before it too. Where the model is given each image's class, one of `num_classes`, p(x) is p(x|y) throughout;
    else that is 0. Where it is given a part of each image, D counts the other values, all likelihoods are of these
    alone, and `conditional` says what comes of the prior's draws. Where it divides photographs into layers and has not
    been given their masks, `layers` holds these against them. Where the likelihood is `none`, the loss having been no
    bound, the figures of a likelihood are undefined (nan).
    """

    binarisation: Binarisation
    binarisation_seed: int
    likelihood: MeasuredLikelihood
    num_classes: int
    bits_per_dimension: Estimate
    squared_error: Estimate
    samples: SampleQuality | None
    conditional: ConditionalMeasures | None = None
    layers: LayerMeasures | None = None


def measure(
    trained: TrainedImages,
    split: str = "test",
    num_samples: int = 100,
    limit: int | None = None,
    seed: int = 0,
    *,
    half_width: float | None = None,
    precision: Precision = "auto",
    refinement: Refinement | None = None,
    with_samples: bool = False,
) -> Measured[ImageMeasures]:
    """Measure a run on a split, or on `limit` images of it, chosen by `seed`.

    With `half_width`, in nats, draws stop where the noise in the NLL is within it; they are weighed in `precision`.
    With a `refinement` the bound of refined posteriors is measured beside it.
    `with_samples` has as many samples of the prior judged by the corpus' classifier, which is trained where it has not
    been. Raises ValueError for an unknown split, fewer than one sample and, with samples, no labels or a model that is
    given a part of each image, NotFiniteError where an image has no finite likelihood.
    """
    _check_samples(trained, with_samples)
    images = choose_images(trained, split, limit, seed)
    batches = list(image_evaluation_batches(images, images_at_once(trained.form)))
    model, device = trained.model, trained.device
    has_bound = trained.recipe.update.trains_bound
    check_refinement(refinement, has_bound=has_bound)
    settings: dict[str, Any] = {"half_width": half_width, "seed": seed, "precision": precision}
    found = measure_split(
        model, batches, device, num_samples, rows_at_once=rows_at_once(trained.form), refinement=refinement, **settings
    )
    shuffled = shuffled_gain(model, batches, found.terms, device, seed).estimate
    prior = prior_gain(model, batches, found.terms, device, seed).estimate
    bits = found.weighted.nll / (trained.form.num_scored * math.log(2))
    errors = squared_errors(trained, batches, found.terms.posterior.mean)
    conditional, more = measure_conditional(model, batches, found, device, num_samples, half_width, seed)
    of_bits = {"bits_per_dimension": mean_estimate(bits)}
    layers, of_layers = _layers(trained, batches, split, limit, seed)
    figures = ImageMeasures(
        split=split,
        examples_digest=digest(images),
        num_examples=len(images),
        num_samples=num_samples,
        half_width=half_width,
        seed=seed,
        checkpoint=trained.checkpoint.path.name,
        binarisation=trained.splits.binarisation,
        binarisation_seed=trained.recipe.corpus.binarisation_seed,
        likelihood=trained.recipe.model.likelihood if has_bound else "none",
        num_classes=trained.model.num_classes,
        squared_error=mean_estimate(errors),
        samples=_samples(trained, images, seed) if with_samples else None,
        conditional=conditional,
        layers=layers,
        **(found.figures(shuffled, prior, seed) | of_bits | ({} if has_bound else WITHOUT_LIKELIHOOD)),
    )
    columns = {**found.per_example, "bits_per_dimension": bits, "squared_error": errors, **more, **of_layers}
    lacking = {} if has_bound else {name: torch.full_like(bits, math.nan) for name in OF_LIKELIHOOD}
    return Measured(figures, {**columns, **lacking})


def _check_samples(trained: TrainedImages, with_samples: bool) -> None:
    if with_samples and trained.form.has_context:
        raise ValueError("--full: the samples of this run complete images that are given in part; leave --full out")


def _layers(
    trained: TrainedImages, batches: Sequence[ImageBatch], split: str, limit: int | None, seed: int
) -> tuple[LayerMeasures | None, dict[str, Float[Tensor, " N"]]]:
    """Layers against the masks of the same images; nothing where the model is no model of layers of photographs."""
    if not reads_photographs(trained.recipe):
        return None, {}
    masks = _chosen(trained.stored.by_name()[split], limit, seed)
    truth = torch.from_numpy(masks.levels[:, 0] > 127).flatten(1)
    assert isinstance(trained.model, LayeredVae)
    return measure_layers(trained.model, batches, truth, trained.device, seed)


def _samples(trained: TrainedImages, images: Images, seed: int) -> SampleQuality:
    classifier = trained_classifier(trained.recipe.corpus, trained.splits)
    return measure_samples(trained, classifier, images.batch(range(len(images))).pixels, seed)


def squared_errors(
    trained: TrainedImages, batches: Sequence[ImageBatch], means: Float[Tensor, "N Z"]
) -> Float[Tensor, " N"]:
    """Of each image, the mean over its scored values of (x − E[x|z])², at the given z, in the batches' order."""
    found = []
    with evaluating(trained.model, 0):
        for batch in (batch.to(trained.device) for batch in batches):
            outputs = trained.model.outputs(means[batch.indices].unsqueeze(0), batch)[0]
            error = batch.pixels.flatten(1) - trained.model.likelihood.mean(outputs)
            found.append(batch.mean_over_scored(error.square()).cpu())
    return torch.cat(found)


def choose_images(trained: TrainedImages, split: str, limit: int | None, seed: int) -> Images:
    """A split of the run's corpus, or `limit` images of it. Raises ValueError for an unknown split."""
    splits = trained.splits.by_name()
    if split not in splits:
        raise ValueError(f"--split {split}: no such split; there are {', '.join(splits)}")
    return _chosen(splits[split], limit, seed)


def _chosen(images: Images, limit: int | None, seed: int) -> Images:
    if limit is None or limit >= len(images):
        return images
    return images.select(torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:limit].numpy())


def digest(images: Images) -> str:
    """Names the images, binarised as they are: two runs whose digests agree were measured on the same pixels."""
    found = hashlib.sha256(images.levels.tobytes())
    for given in (images.observed, images.context):
        found.update(b"" if given is None else given.tobytes())
    return found.hexdigest()[:16]
