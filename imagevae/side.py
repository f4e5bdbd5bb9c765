"""The image side: its recipes, and what a run of images is trained with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from corpora.images import ImageBatch, ImageBatches, ImageCorpus, ImageSplits, image_evaluation_batches, load_images
from imagevae.form import FORM, ImageForm, dump_form
from imagevae.models import ImageModel
from imagevae.recipe import ImageRecipe
from latent.training import Run, Schema, Side, TrainingData

IMAGES_AT_ONCE = 500  # in a batch where no gradient is needed, of images of MNIST's size
PHOTOGRAPHS = ("cub", "masks")  # corpora of masks, with each of which a photograph is given
CORPORA_WITH_CONTEXT = ("digits_quadrants", "mnist_quadrants", *PHOTOGRAPHS)  # of images with which something is given
MODELS_OF_CONTEXT = ("structured_baseline", "structured_cvae")  # which read that
MODELS_OF_PHOTOGRAPHS = ("layered_vae",)  # of photographs by themselves, whose masks they are not given
ROWS_AT_ONCE = 1024  # draws times images in one call of the decoder: its outputs stay in the processor's cache
PIXELS_AT_ONCE = 784 * IMAGES_AT_ONCE  # what a network makes of larger images would fill the memory
PIXELS_OF_ROWS = 4096 * ROWS_AT_ONCE


@dataclass(frozen=True)
class ImageMaterial:
    """The recipe's corpus, read."""

    recipe: ImageRecipe
    splits: ImageSplits

    @property
    def form(self) -> ImageForm:
        """What a model must know of the images."""
        channels, height, width = self.splits.shape
        return ImageForm(
            channels=channels,
            height=height,
            width=width,
            class_names=self.splits.class_names,
            num_observed=self.splits.num_observed,
            context_channels=self.splits.context_channels,
        )

    @property
    def files(self) -> Mapping[str, bytes]:
        """The form of the images."""
        return {FORM: dump_form(self.form)}

    def build_model(self) -> ImageModel:
        """The recipe's model; its decoder begins with the mean of the training images."""
        model = self.recipe.model.build(self.form)
        model.start_at(self.splits.train.mean)
        return model

    @cached_property
    def batches(self) -> ImageBatches:
        """The order of training."""
        train = self.recipe.train
        return ImageBatches(
            self.splits.train,
            train.images_per_batch,
            train.seed,
            self.splits.binarisation,
            train.augmentation,
        )

    def training_data(self) -> TrainingData:
        """The order of training and the validation batches."""
        return TrainingData(
            batches=self.batches,
            validation=self._validation_batches(),
            unit="images",
            units_per_batch=len(self.splits.train) / self.batches.num_batches,
        )

    def describe(self) -> list[str]:
        """The corpus' size, how it was binarised, and what is to be known of it."""
        splits, (channels, height, width) = self.splits, self.splits.shape
        return [
            f"corpus {self.recipe.corpus.kind}: "
            f"{len(splits.train):,} / {len(splits.valid):,} / {len(splits.test):,} images of "
            f"{channels}×{height}×{width}, binarisation {splits.binarisation}, "
            f"{self.batches.num_batches} batches an epoch",
            *splits.notes,
        ]

    def _validation_batches(self) -> list[ImageBatch]:
        valid = self.splits.valid
        size = min(self.recipe.train.validation_size, len(valid))
        subset = valid.select(np.random.default_rng(0).permutation(len(valid))[:size])
        return list(image_evaluation_batches(subset, images_at_once(self.form)))


def images_at_once(form: ImageForm) -> int:
    """In a batch where no gradient is needed."""
    return max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // form.num_pixels))


def rows_at_once(form: ImageForm) -> int:
    """Draws times images in one call of the decoder, several times as many as images, which are read for each call."""
    return max(1, min(ROWS_AT_ONCE, PIXELS_OF_ROWS // form.num_pixels))


def read_material(recipe: ImageRecipe, run: Run | None) -> ImageMaterial:
    """The corpus, read; a run keeps nothing that replaces it."""
    return ImageMaterial(recipe, seen_of(recipe, load_images(recipe.corpus)))


def reads_photographs(recipe: ImageRecipe) -> bool:
    """Whether the model is one of photographs that come with masks, which it is not given."""
    return recipe.model.kind in MODELS_OF_PHOTOGRAPHS and recipe.corpus.kind in PHOTOGRAPHS


def seen_of(recipe: ImageRecipe, splits: ImageSplits) -> ImageSplits:
    """What the recipe's model may see of its corpus."""
    return splits.photographs() if reads_photographs(recipe) else splits


def check_recipe(recipe: ImageRecipe) -> None:
    """Raise ValueError where corpus, model, objective and update do not fit one another."""
    check_likelihood(recipe)
    check_structured(recipe)
    check_augmentation(recipe)
    check_vae_gan(recipe)


def check_likelihood(recipe: ImageRecipe) -> None:
    """Raise ValueError for grey values under a Bernoulli, which is no likelihood, and bits under a continuous one."""
    binarisation = "grey" if reads_photographs(recipe) else recipe.corpus.binarisation
    likelihood = recipe.model.likelihood
    if likelihood == "layers" and binarisation != "grey":
        raise ValueError(
            f"model.kind: {recipe.model.kind} is a density of levels, and corpus.kind {recipe.corpus.kind} has bits; "
            "set corpus.kind=masks, or corpus.binarisation=grey where it can be"
        )
    if (binarisation == "grey") == (likelihood == "bernoulli"):
        fitting = "discretised_logistic or gaussian" if binarisation == "grey" else "bernoulli"
        raise ValueError(
            f"model.likelihood: {likelihood} does not fit corpus.binarisation {binarisation}; set it to {fitting}"
        )


def check_structured(recipe: ImageRecipe) -> None:
    """Raise ValueError unless a corpus with a context has a model that reads it, trained by what trains all of it.

    A frozen baseline is trained by a first stage alone, a recognition network by the bound alone.
    """
    corpus, model, objective = recipe.corpus.kind, recipe.model, recipe.objective
    if reads_photographs(recipe):
        return
    if (corpus in CORPORA_WITH_CONTEXT) != (model.kind in MODELS_OF_CONTEXT):
        fitting = "model.kind=structured_cvae" if corpus in CORPORA_WITH_CONTEXT else "corpus.kind=mnist_quadrants"
        raise ValueError(f"model.kind: {model.kind} does not fit corpus.kind {corpus}; set {fitting}")
    if model.kind != "structured_cvae":
        return
    if model.freeze_baseline and recipe.update.kind != "pretrained":
        raise ValueError("model.freeze_baseline: nothing would train the baseline; set update.kind=pretrained")
    if model.recognition and objective.kind == "hybrid" and objective.bound_share == 0:
        raise ValueError(
            "objective.bound_share: at 0 nothing would train the recognition network; set model.recognition=false"
        )
    if model.coarser_scales > 0 and objective.kind == "iwae":
        raise ValueError(
            "model.coarser_scales: objective.kind iwae has no auxiliary_weight; set objective.kind=elbo or hybrid"
        )


def check_augmentation(recipe: ImageRecipe) -> None:
    """Raise ValueError for images that are to be varied without a photograph beside each."""
    corpus = recipe.corpus.kind
    if recipe.train.augmentation is not None and corpus not in PHOTOGRAPHS:
        raise ValueError(
            f"train.augmentation: it varies photographs and their masks, and corpus.kind {corpus} has none; "
            "set train.augmentation=null"
        )


def check_vae_gan(recipe: ImageRecipe) -> None:
    """Raise ValueError for a VAE/GAN of a model that is told the class: its discriminator would not be."""
    if recipe.update.kind == "vae_gan" and recipe.model.kind != "vae":
        raise ValueError(f"model.kind: update.kind vae_gan does not train a {recipe.model.kind}; set model.kind=vae")


IMAGE: Side[ImageRecipe] = Side(
    name="image",
    schema=Schema(ImageRecipe),
    corpus_kinds=frozenset(member.kind for member in get_args(get_args(ImageCorpus)[0])),
    folder=Path(__file__).parent / "recipes",
    read=read_material,
    check=check_recipe,
)
