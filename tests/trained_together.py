"""Recipes small enough to be trained in several processes: `torchrun … tests/trained_together.py CORPUS FOLDER`.

After them comes one that is too long to come to its end.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from spoiled import spoil
from tiny import tiny_image_recipe, tiny_recipe

from imagevae.side import IMAGE
from latent.training import Run, Side, start_run
from latent.training.recipe import Recipe
from textvae.side import TEXT

OWN: dict[str, tuple[str, ...]] = {  # feedback, adversaries, two stages, clusters that are held
    "controlvae": ("train.on_nonfinite=rollback",),
    "aae": ("train.on_nonfinite=skip",),
    "fbp2019": ("update.steps=5", "train.on_nonfinite=skip"),
    "digits_vade": ("update.steps=5", "update.held_steps=4", "train.on_nonfinite=skip"),
    "digits_vaegan": ("update.channels=[4,6]", "update.margin=0.02", "train.on_nonfinite=skip"),
}
SHARED = ("train.batches_per_step=3", "train.steps=14", "train.log_steps=4", "train.checkpoint_steps=7")


def shared_recipe(name: str, corpus: Path) -> tuple[Side[Any], Recipe[Any, Any, Any]]:
    """Three batches a step: of two processes one has two of them. A validation has as many, or one (digits)."""
    if name.startswith("digits"):
        return IMAGE, tiny_image_recipe(name, *SHARED, *OWN[name])
    return TEXT, tiny_recipe(corpus, *SHARED, "train.validation_size=4", *OWN[name], recipe=name)


def train_all(corpus: Path, folder: Path) -> dict[str, Run]:
    """Train each in a folder of its name; the objective of the last process has a step that is not finite."""
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get("RANK", "1") == "1":
            spoil(patch, (10,))
        return {name: start_run(*shared_recipe(name, corpus), folder / name) for name in OWN}


if __name__ == "__main__":
    train_all(*map(Path, sys.argv[1:]))
    start_run(TEXT, tiny_recipe(Path(sys.argv[1]), *SHARED, "train.steps=100000"), Path(sys.argv[2]) / "long")
