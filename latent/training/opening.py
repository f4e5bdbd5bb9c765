"""Open a run for use."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from latent.bound import LatentModel
from latent.training.checkpoints import MODEL, Checkpoint, load_model
from latent.training.config import read_tree
from latent.training.processes import join_processes
from latent.training.runs import Run
from latent.training.size import best_device, room_in_files

ModelT = TypeVar("ModelT", bound=LatentModel[Any])


def restore_model(
    run: Run, build: Callable[[], ModelT], which: str
) -> tuple[ModelT, Checkpoint, torch.device, tuple[str, ...]]:
    """Build a model for a checkpoint, in evaluation mode on the best device here, and warn of damaged ones passed over.

    Of several processes each has the model, on a device of its own.
    Raises RunError where the run has no whole checkpoint of that name, SizeError for a model that is larger than it.
    """
    join_processes()
    checkpoint, damaged = run.checkpoint(which)
    device = best_device()
    with room_in_files(str(run.config_path), read_tree(run.config_path), [checkpoint.path / MODEL]):
        model = build()
    model.to(device)
    load_model(checkpoint, model)
    model.eval()
    return model, checkpoint, device, tuple(f"{line}; using {checkpoint.path.name}" for line in damaged)
