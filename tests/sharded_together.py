"""Transformers small enough to be trained in shards: `torchrun … tests/sharded_together.py CORPUS FOLDER`.

Before them a run is gone on with that was begun in one process. Each process prints how many numbers it holds.
"""

import os
import sys
from pathlib import Path

import pytest
from spoiled import spoil
from tiny import tiny_recipe

from latent.training import Run, build_state, resume_run, start_run
from latent.training.sharding import Sharded
from textvae.recipe import TextRecipe
from textvae.side import TEXT

SHARDED = "train.shard=true"
# z in three places; running statistics; weights beside the layers that `forward` does not call; layers that are
# called twice in a step
OWN: dict[str, tuple[str, ...]] = {
    "embedding": ("model.posterior={kind: batch_norm}",),
    "layers": (
        "model.injection=layers",
        "model.positions={kind: learned}",
        "model.tie_weights=false",
        "model.posterior={kind: iaf}",
        "train.on_nonfinite=rollback",
    ),
    "vamp": ("model.injection=prefix", "model.prior={kind: vamp, num_components: 3, length: 4}", "train.optimizer=sgd"),
}


def recipe(corpus: Path, name: str, *overrides: str) -> TextRecipe:
    """Four batches a step, three of a validation, and numbers of rows that two processes cannot halve."""
    shared = ("train.batches_per_step=4", "train.steps=8", "train.log_steps=4", "train.checkpoint_steps=4")
    small = ("train.validation_size=4", "model.num_layers=3", "objective.free_bits=0")
    return tiny_recipe(corpus, *shared, *small, *OWN[name], *overrides, recipe="transformer_vae")


def train_each(corpus: Path, folder: Path, *overrides: str) -> dict[str, Run]:
    """Train each in a folder of its name; for the last process a step of the one that rolls back is not finite."""
    runs = {}
    for name in OWN:
        with pytest.MonkeyPatch.context() as patch:
            if name == "layers" and os.environ.get("RANK", "1") == "1":
                spoil(patch, (5,))
            runs[name] = start_run(TEXT, recipe(corpus, name, *overrides), folder / name)
    return runs


def print_numbers_held(corpus: Path) -> None:
    """Of a model's parameters: how many are here, and how many there are."""
    sharded = recipe(corpus, "embedding", SHARDED)
    model = build_state(TEXT.read(sharded, None), sharded.train).model
    num_weights = sum(weight.numel() for weight in model.parameters())
    layout = Sharded(model, writes=True)
    held = sum(layout.own(weight).numel() for weight in model.parameters())
    os.write(1, f"{held} {num_weights}\n".encode())  # in one piece, beside the other process's


if __name__ == "__main__":
    corpus, folder = map(Path, sys.argv[1:])
    print_numbers_held(corpus)
    resume_run(TEXT, Run(folder / "begun"), [SHARDED, "train.steps=12"])
    train_each(corpus, folder, SHARDED)
