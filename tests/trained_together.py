"""Recipes small enough to be trained in several processes: `torchrun … tests/trained_together.py CORPUS FOLDER`.

One of them is measured then. After them comes one that is too long to come to its end.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from spoiled import spoil
from tiny import tiny_image_recipe, tiny_recipe

from cli import cli
from imagevae.side import IMAGE
from latent.training import Run, Side, start_run
from latent.training.recipe import Recipe
from textvae.side import TEXT

# feedback, adversaries, two stages, held clusters, inner steps, running statistics with a batch of one sentence
OWN: dict[str, tuple[str, ...]] = {
    "controlvae": ("train.on_nonfinite=rollback",),
    "aae": ("train.on_nonfinite=skip",),
    "fbp2019": ("update.steps=5", "train.on_nonfinite=skip"),
    "bnvae2020": ("train.tokens_per_batch=72", "train.on_nonfinite=rollback"),
    "lagging2019": ("update.max_inner_steps=4", "update.compare_every=2", "train.on_nonfinite=skip"),
    "digits_vade": ("update.steps=5", "update.held_steps=4", "train.on_nonfinite=skip"),
    "digits_vaegan": ("update.channels=[4,6]", "update.margin=0.02", "train.on_nonfinite=skip"),
}
IN_FLOAT64 = (
    "bnvae2020",
)  # means that hardly differ yet are stretched to a spread of 0.6, and their rounding with them
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
        runs = {}
        for name in OWN:
            with drawn_in(torch.float64 if name in IN_FLOAT64 else torch.float32):
                runs[name] = start_run(*shared_recipe(name, corpus), folder / name)
        return runs


@contextmanager
def drawn_in(dtype: torch.dtype) -> Iterator[None]:
    """Weights are of this type, and what is computed by them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def measure(run: Run) -> None:
    """Print what is measured of a run, by draws in rounds of which the last have some of the sentences alone."""
    asked = ("--split=train", "--samples=150", "--half-width=0.05", "--precision=fp32", "--json")
    cli.main(["measure", str(run.path), *asked], standalone_mode=False)


if __name__ == "__main__":
    trained = train_all(*map(Path, sys.argv[1:]))
    measure(trained["controlvae"])
    start_run(TEXT, tiny_recipe(Path(sys.argv[1]), *SHARED, "train.steps=100000"), Path(sys.argv[2]) / "long")
