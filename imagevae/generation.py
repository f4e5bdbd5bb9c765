"""Using a trained image model: sample, reconstruct, interpolate. Whole batches at once, everything seeded."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from corpora.images import ImageBatch, Images, image_evaluation_batches
from imagevae.drawing import MOST_SHOWN, Drawing
from imagevae.session import TrainedImages
from imagevae.side import images_at_once
from latent.distributions import concatenate
from latent.distributions.paths import PATHS
from latent.measures import evaluating


def sample(
    trained: TrainedImages, num_samples: int, seed: int = 0, label: int | None = None
) -> tuple[Float[Tensor, "N C H W"], Int64[Tensor, " N"]]:
    """The image shown of each of N draws of the prior, E[x|z] wherever that is at hand, and each one's class.

    A conditional model draws from `label`, or from its classes in turn. Raises ValueError for a class that it does not
    have, or for any class asked of an unconditional model.
    """
    labels = chosen_labels(trained, num_samples, label)
    return draw(trained, labels, seed), labels


def draw(trained: TrainedImages, labels: Int64[Tensor, " N"], seed: int = 0) -> Float[Tensor, "N C H W"]:
    """The image shown of a draw of the prior for each class; a model that is not conditional heeds none."""
    batch = blank_batch(trained, labels)
    return decode(trained, _of_prior(trained, batch, seed), batch)


def drawing(trained: TrainedImages, labels: Int64[Tensor, " N"], seed: int = 0) -> Drawing | None:
    """How the first of the images that `draw` draws came about, of a model that draws in steps."""
    batch = blank_batch(trained, labels)
    first = torch.arange(min(len(labels), MOST_SHOWN), device=trained.device)
    z = _of_prior(trained, batch, seed)[first]
    with evaluating(trained.model, 0):
        return trained.model.drawing(z, batch.take(first))


def _of_prior(trained: TrainedImages, batch: ImageBatch, seed: int) -> Float[Tensor, "N Z"]:
    with evaluating(trained.model, seed):
        return trained.model.prior(batch).sample()


def simulated(trained: TrainedImages, z: Float[Tensor, "B Z"], batch: ImageBatch) -> ImageBatch:
    """x ~ p(x|z) in the place of the batch's images; its classes, and what is given of them, stay."""
    return replace(batch, pixels=trained.form.images(trained.model.drawn(z, batch)))


def reconstruct(trained: TrainedImages, batch: ImageBatch, seed: int = 0) -> Float[Tensor, "N C H W"]:
    """The image shown of each one's posterior mean."""
    batch = batch.to(trained.device)
    with evaluating(trained.model, seed):
        z = trained.model.posterior(batch).mean
    return decode(trained, z, batch)


def interpolate(trained: TrainedImages, ends: ImageBatch, num_steps: int, path: str) -> Float[Tensor, "N C H W"]:
    """Images shown along a `linear` or `slerp` path between two posterior means; a class stays the first's."""
    ends = ends.to(trained.device)
    with evaluating(trained.model, 0):
        means = trained.model.posterior(ends).mean
    z = PATHS[path](means[0], means[1], num_steps)
    return decode(trained, z, ends.take(torch.zeros(num_steps, dtype=torch.int64, device=trained.device)))


def decode(trained: TrainedImages, z: Float[Tensor, "N Z"], batch: ImageBatch) -> Float[Tensor, "N C H W"]:
    """Images for N latent vectors, E[x|z] or, as `shown_as` says, draws; of the batch only the classes are used."""
    images = []
    with evaluating(trained.model, 0):
        for rows in torch.arange(len(z), device=z.device).split(images_at_once(trained.form)):
            images.append(trained.form.images(trained.model.shown(z[rows], batch.take(rows))).cpu())
    return torch.cat(images)


def images_of_test(trained: TrainedImages, indices: Sequence[int]) -> ImageBatch:
    """Images of the test split by their numbers, from 0. Raises ValueError for one that is not there."""
    test = trained.splits.test
    for index in indices:
        if not 0 <= index < len(test):
            raise ValueError(f"image {index}: the test split has images 0 to {len(test) - 1:,}")
    return test.batch(list(indices))


def posterior_means(trained: TrainedImages, split: str) -> Float[Tensor, "N Z"]:
    """E[z|x] of every image of a split, in its order."""
    return means_of(trained, trained.splits.by_name()[split])


def means_of(trained: TrainedImages, images: Images) -> Float[Tensor, "N Z"]:
    """E[z|x] of each of the images."""
    batches = image_evaluation_batches(images, images_at_once(trained.form))
    with evaluating(trained.model, 0):
        parts = [trained.model.posterior(batch.to(trained.device)) for batch in batches]
        means: Tensor = concatenate(*parts).mean
    return means.cpu()


def chosen_labels(trained: TrainedImages, num_samples: int, label: int | None) -> Int64[Tensor, " N"]:
    """The class of each sample: the one asked for, else the model's classes in turn, else 0."""
    num_classes = trained.model.num_classes
    if label is not None and num_classes == 0:
        raise ValueError(f"--label {label}: the model is not conditional, so it draws no class; leave --label out")
    if label is not None and label >= num_classes:
        known = ", ".join(f"{number} ({name})" for number, name in enumerate(trained.form.class_names))
        raise ValueError(f"--label {label}: no such class; there are {known}")
    if label is not None:
        return torch.full((num_samples,), label)
    return torch.arange(num_samples) % max(1, num_classes)


def blank_batch(trained: TrainedImages, labels: Int64[Tensor, " N"]) -> ImageBatch:
    """A batch that says nothing but its classes."""
    pixels = torch.zeros(len(labels), *trained.form.shape)
    return ImageBatch(pixels=pixels, indices=torch.arange(len(labels)), labels=labels).to(trained.device)
