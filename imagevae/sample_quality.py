"""What a classifier says of a model's samples: are they of the class asked for, and distributed as the images are?"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from imagevae.classifier import Classifier
from imagevae.generation import blank_batch, chosen_labels
from imagevae.session import TrainedImages
from latent.measures import Estimate, evaluating, share_estimate
from latent.measures.jackknife import jackknife_estimate

DRAWN_AT_ONCE = 1000


@dataclass(frozen=True)
class SampleQuality:
    """Samples of the prior under the corpus' classifier.

    `pixels` are drawn too, or, where the loss has trained no likelihood of them, E[x|z] as it trained it.

    `confusion[i][j]` counts the samples asked to be of class i and taken for class j: of a conditional model alone, as
    is the accuracy. `frechet_distance` is in the features of that classifier and compares with nothing else.
    """

    num_samples: int
    classifier_accuracy: Estimate
    conditional_accuracy: Estimate | None
    confusion: tuple[tuple[int, ...], ...] | None
    frechet_distance: Estimate
    pixels: Literal["drawn", "expected"] = "drawn"


def measure_samples(
    trained: TrainedImages, classifier: Classifier, images: Float[Tensor, "N C H W"], seed: int = 0
) -> SampleQuality:
    """Draw as many samples as there are images, of a conditional model equally many of each class, and judge them."""
    labels = chosen_labels(trained, len(images), None)
    drawn = draw_images(trained, labels, seed)
    found = classifier.classify(drawn)
    num_classes = trained.model.num_classes
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    if num_classes:
        confusion.index_put_((labels, found), torch.ones_like(labels), accumulate=True)
    return SampleQuality(
        num_samples=len(drawn),
        classifier_accuracy=classifier.accuracy,
        conditional_accuracy=share_estimate(found == labels) if num_classes else None,
        confusion=tuple(map(tuple, confusion.tolist())) if num_classes else None,
        frechet_distance=frechet_estimate(classifier.features(drawn), classifier.features(images)),
        pixels="drawn" if trained.recipe.update.trains_bound else "expected",
    )


def draw_images(trained: TrainedImages, labels: Int64[Tensor, " N"], seed: int = 0) -> Float[Tensor, "N C H W"]:
    """x ~ p(x|z, y), z ~ p(z|y); an unconditional model heeds no label.

    Draws of the model, not expectations, unless its loss was no bound and has trained these.
    """
    images = []
    pixels = trained.model.drawn if trained.recipe.update.trains_bound else trained.model.shown
    with evaluating(trained.model, seed):
        for part in labels.split(DRAWN_AT_ONCE):
            batch = blank_batch(trained, part)
            drawn = pixels(trained.model.prior(batch).sample(), batch)
            images.append(trained.form.images(drawn).cpu())
    return torch.cat(images)


def frechet_estimate(first: Float[Tensor, "N F"], second: Float[Tensor, "M F"]) -> Estimate:
    """The Fréchet distance of two samples of features, its interval by a jackknife over twentieths of both."""
    one, other = first.double().numpy(), second.double().numpy()
    found = jackknife_estimate(lambda rows, columns: frechet_distance(one[rows], other[columns]), len(one), len(other))
    return Estimate(found.value, max(0.0, found.low), found.high)


def frechet_distance(first: Float64[np.ndarray, "N F"], second: Float64[np.ndarray, "M F"]) -> float:
    r"""\(\lVert\mu_1-\mu_2\rVert^2 + \mathrm{tr}\big(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}\big)\).

    The squared 2-Wasserstein distance of the normals with the samples' means and covariances, which exceeds that of
    their populations by a term of order 1/N: compare samples of one size alone. Reference: Dowson & Landau 1982, "The
    Fréchet distance between multivariate normal distributions".
    """
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(min=0)).sum()
    mean = np.square(first.mean(0) - second.mean(0)).sum()
    return float(mean + np.trace(one) + np.trace(other) - 2 * shared)
