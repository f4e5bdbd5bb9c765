"""Image recipes: the shared shape with image corpora and models, and how large their batches are."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from corpora.images import Augmentation, ImageCorpus
from imagevae.models import ImageModelConfig
from latent.training import Recipe, TrainConfig


@dataclass(frozen=True, kw_only=True)
class ImageTrain(TrainConfig):
    """How to train, with batches of a fixed number of images."""

    images_per_batch: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    augmentation: Augmentation | None = None  # of the training images, where another image is given with each


ImageRecipe = Recipe[ImageCorpus, ImageModelConfig, ImageTrain]
