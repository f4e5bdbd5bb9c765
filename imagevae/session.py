"""A trained run of images, opened for use: model, form, recipe, checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from corpora.images import ImageSplits, load_images
from imagevae.form import ImageForm, stored_form
from imagevae.models import ImageModel
from imagevae.recipe import ImageRecipe
from imagevae.side import IMAGE, seen_of
from latent.training import Run, check_corpus, restore_model
from latent.training.checkpoints import Checkpoint


@dataclass(frozen=True)
class TrainedImages:
    """A model in evaluation mode with all that is needed to use it."""

    run: Run
    recipe: ImageRecipe
    form: ImageForm
    model: ImageModel
    checkpoint: Checkpoint
    device: torch.device
    warnings: tuple[str, ...]

    @cached_property
    def stored(self) -> ImageSplits:
        """The run's corpus, read once. Raises RunError where its content is not what the run was trained on."""
        check_corpus(self.run, self.recipe.corpus)
        return load_images(self.recipe.corpus)

    @cached_property
    def splits(self) -> ImageSplits:
        """What the model may see of it."""
        return seen_of(self.recipe, self.stored)


def open_trained_images(run: Run, which: str = "best") -> TrainedImages:
    """Open a run at its checkpoint `best` (by validation ELBO), `last` or `step-000500`.

    Raises RunError where the run has no form or no whole checkpoint.
    """
    recipe = IMAGE.load_recipe(run.config_path)
    form = stored_form(run)
    build: Callable[[], ImageModel] = partial(recipe.model.build, form)
    model, checkpoint, device, warnings = restore_model(run, build, which)
    return TrainedImages(run, recipe, form, model, checkpoint, device, warnings)
