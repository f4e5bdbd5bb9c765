"""Open a run for use: the weights of a checkpoint, and the corpus that they were trained on."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from latent.bound import LatentModel
from latent.training.checkpoints import MODEL, Checkpoint, load_model
from latent.training.config import read_tree
from latent.training.files import read_plain
from latent.training.runs import Run, RunError
from latent.training.size import best_device, room_in_files

CORPUS = "corpus.json"

ModelT = TypeVar("ModelT", bound=LatentModel[Any])


def describe_corpus(corpus: Any) -> bytes:
    """What stands in a run for its corpus' content: a digest."""
    digest = hashlib.sha256(corpus.fingerprint().encode()).hexdigest()
    return (json.dumps({"sha256": digest}) + "\n").encode()


def check_corpus(run: Run, corpus: Any) -> None:
    """Raise RunError where the content of the corpus is not what the run was trained on."""
    path = run.path / CORPUS
    if not path.is_file() or read_plain(path) != describe_corpus(corpus):
        raise RunError(
            f"{path}: the content of the corpus has changed since the training, so that its splits are others; "
            "put it back, or train a new run"
        )


def restore_model(
    run: Run, build: Callable[[], ModelT], which: str
) -> tuple[ModelT, Checkpoint, torch.device, tuple[str, ...]]:
    """Build a model for a checkpoint, in evaluation mode on the best device here, and warn of damaged ones passed over.

    Raises RunError where the run has no whole checkpoint of that name, SizeError for a model that is larger than it.
    """
    checkpoint, damaged = run.checkpoint(which)
    device = best_device()
    with room_in_files(str(run.config_path), read_tree(run.config_path), [checkpoint.path / MODEL]):
        model = build()
    model.to(device)
    load_model(checkpoint, model)
    model.eval()
    return model, checkpoint, device, tuple(f"{line}; using {checkpoint.path.name}" for line in damaged)
