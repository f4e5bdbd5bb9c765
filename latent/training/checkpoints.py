"""Checkpoints: safetensors and JSON, checksummed, whole or absent. Nothing in them is ever unpickled."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import nn
from torch.optim import Optimizer

from latent.bound import LatentModel
from latent.training.config import Tree
from latent.training.files import (
    check_plain,
    checksum,
    digest,
    folder_written_atomically,
    length_by_header,
    read_json,
    remove_folder,
    sweep,
    sync_folder,
    write_synced,
)
from latent.training.sharding import Layout
from latent.training.state import TrainState
from latent.training.window import Columns

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
CLUSTERS = "clusters.safetensors"  # of an update that holds them
ADVERSARY, ADVERSARY_OPTIMIZER = "adversary.safetensors", "adversary_optimizer.safetensors"  # of an update that has one
Parts = dict[str, dict[str, torch.Tensor]]
NAME = re.compile(r"step-(\d{6,})")


class CheckpointError(ValueError):
    """A checkpoint that is damaged or does not fit the model."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder `step-000500` and what its state file says."""

    path: Path
    step: int
    figures: dict[str, float]  # of the validation; none where there was no validation at this step
    scaler: dict[str, Any] | None  # of float16's gradients
    feedback: dict[str, float] = field(default_factory=dict)  # of the objective and the update
    window: Columns = field(default_factory=dict)  # the figures of the steps since the last row of metrics.jsonl
    recipe: Tree = field(default_factory=dict)  # trained by
    files: frozenset[str] = frozenset()  # of tensors, which have been held against their checksums


def save_checkpoint(
    folder: Path,
    state: TrainState,
    parts: Parts,
    figures: dict[str, float],
    window: Columns | None = None,
    recipe: Tree | None = None,
) -> Path:
    """Write a state and its tensors under `folder/step-NNNNNN`; on an error (a full disk) nothing has that name.

    What was written is read back and held against what should have been before it takes the name. Raises OSError.
    """
    path = folder / f"step-{state.step:06d}"
    if not folder.is_dir():
        folder.mkdir()
        sync_folder(folder.parent)
    with folder_written_atomically(path) as temporary:
        files = {}
        for name, tensors in parts.items():
            data = safetensors_bytes(tensors)
            write_synced(temporary / name, data)
            files[name] = digest(data)
        scaler = state.accelerator.scaler
        described: dict[str, Any] = {"step": state.step, "figures": figures, "files": files}
        described["feedback"] = {name: float(value) for name, value in state.feedback.items()}
        described["scaler"] = None if scaler is None else scaler.state_dict()
        described |= {"window": window or {}, "recipe": recipe or {}}
        _write_state(temporary, described)
        try:
            read_checkpoint(temporary)
        except CheckpointError as error:
            raise OSError(f"what was written is not what can be read: {error}") from error
    return path


def save_weights_of(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write a checkpoint's weights under `folder` and its own name, without what a training needs to go on."""
    path = folder / checkpoint.path.name
    path.mkdir(parents=True)
    weights = (checkpoint.path / MODEL).read_bytes()
    write_synced(path / MODEL, weights)
    described = {"step": checkpoint.step, "figures": checkpoint.figures, "recipe": checkpoint.recipe}
    _write_state(path, {**described, "files": {MODEL: digest(weights)}})
    return path


def _write_state(path: Path, described: dict[str, Any]) -> None:
    stated = json.dumps({**described, "checksum": _digest(described)}, indent=1) + "\n"
    write_synced(path / STATE, stated.encode())


def state_tensors(state: TrainState) -> Parts:
    """Weights and moments by the name of their file; they are the state's own where they lie in one piece.

    Where they are sharded all processes ask for them, and the first one has them.
    """
    parts = {MODEL: state.layout.to_save(_module_tensors(state.model))}
    parts[OPTIMIZER] = state.layout.to_save(_optimizer_tensors(state.optimizer))
    if state.adversary is not None:
        parts[ADVERSARY] = _module_tensors(state.adversary.module)
        parts[ADVERSARY_OPTIMIZER] = _optimizer_tensors(state.adversary.optimizer)
    if state.clusters is not None:
        parts[CLUSTERS] = {"clusters": state.clusters}
    return parts


def _module_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in module.state_dict().items()}


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's moments as `parameter index.name`; its settings come from the recipe."""
    entries = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).contiguous()
        for index, entry in entries.items()
        for name, value in entry.items()
        if value is not None
    }


def list_checkpoints(folder: Path) -> tuple[list[Checkpoint], list[str]]:
    """The whole checkpoints by step, and a line for each damaged one."""
    good: list[Checkpoint] = []
    damaged: list[str] = []
    for path in sorted(folder.glob("step-*"), key=lambda p: (len(p.name), p.name)):
        try:
            good.append(read_checkpoint(path))
        except CheckpointError as error:
            damaged.append(str(error))
    return good, damaged


def read_checkpoint(path: Path) -> Checkpoint:
    """Check a checkpoint against its checksums. Raises CheckpointError naming what is wrong."""
    try:
        described: dict[str, Any] = read_json(path / STATE)
        if described.pop("checksum", None) != _digest(described):
            raise CheckpointError(f"{path / STATE}: damaged (it has no checksum, or another than its content's)")
        files = {MODEL} | ({OPTIMIZER, ADVERSARY, ADVERSARY_OPTIMIZER, CLUSTERS} & described["files"].keys())
        for name in sorted(files):
            _check_length(path / name)
            if checksum(path / name) != described["files"][name]:
                raise CheckpointError(f"{path / name}: damaged (its checksum is not the one in {STATE})")
        figures = {str(key): float(value) for key, value in described["figures"].items()}
        feedback = {str(key): float(value) for key, value in described.get("feedback", {}).items()}
        step = int(described["step"])
        if step < 0:
            raise CheckpointError(f"{path / STATE}: damaged (step {step})")
        window = {str(key): [float(value) for value in column] for key, column in described.get("window", {}).items()}
        if len({len(column) for column in window.values()}) > 1:
            raise CheckpointError(f"{path / STATE}: damaged (its window's columns differ in length)")
        recipe = dict(described.get("recipe", {}))
        return Checkpoint(path, step, figures, described.get("scaler"), feedback, window, recipe, frozenset(files))
    except OSError as error:
        raise CheckpointError(f"{path}: damaged ({error.strerror}: {Path(error.filename or path).name})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if type(error) is CheckpointError:
            raise
        raise CheckpointError(f"{path / STATE}: damaged ({error})") from error


def _check_length(path: Path) -> None:
    """Raise CheckpointError for a file that is longer or shorter than its header says, before its content is read."""
    check_plain(path, most=None)
    try:
        length = length_by_header(path)
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged (no header of safetensors)") from error
    if length != path.stat().st_size:
        raise CheckpointError(f"{path}: damaged (not of the length that its header says)")


def _digest(described: dict[str, Any]) -> str:
    """A checksum of the state file's own content."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def load_model(checkpoint: Checkpoint, model: LatentModel[Any], names: Sequence[str] | None = None) -> None:
    """Load the weights, or those of these names alone. Raises CheckpointError if they are not the model's."""
    with _refused_if_foreign(checkpoint.path / MODEL, "the model of config.yaml"):
        stored = load_file(checkpoint.path / MODEL)
        model.load_state_dict(stored if names is None else model.state_dict() | {name: stored[name] for name in names})


@contextmanager
def _refused_if_foreign(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: does not fit {what}: {reason}") from error


def _set_moments(tensors: dict[str, torch.Tensor], optimizer: Optimizer, layout: Layout) -> None:
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        entries.setdefault(int(index), {})[key] = tensor
    _check_moments(entries, optimizer)
    parameters = _parameters(optimizer)
    entries = {index: layout.like(entry, dict.fromkeys(entry, parameters[index])) for index, entry in entries.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


def set_tensors(parts: Parts, state: TrainState, folder: Path = Path()) -> None:
    """Give the state the weights and moments of `state_tensors`. Raises CheckpointError where they do not fit."""
    pairs: list[tuple[str, str, nn.Module, Optimizer]] = [(MODEL, OPTIMIZER, state.model, state.optimizer)]
    if state.adversary is not None:
        pairs.append((ADVERSARY, ADVERSARY_OPTIMIZER, state.adversary.module, state.adversary.optimizer))
    for weights, moments, module, optimizer in pairs:
        with _refused_if_foreign(folder / weights, "the model of config.yaml"):
            module.load_state_dict(state.layout.like(parts[weights], module.state_dict()))
        with _refused_if_foreign(folder / moments, "the optimizer"):
            _set_moments(parts[moments], optimizer, state.layout)
    with _refused_if_foreign(folder / CLUSTERS, "the update of config.yaml"):
        state.clusters = parts[CLUSTERS]["clusters"].to(state.accelerator.device) if CLUSTERS in parts else None


def load_state(checkpoint: Checkpoint, state: TrainState) -> None:
    """Load weights, moments, feedback and step, so that training goes on as if it had never stopped."""
    if OPTIMIZER not in checkpoint.files:
        raise CheckpointError(f"{checkpoint.path}: exported, without the moments that a training needs to go on")
    names = [MODEL, OPTIMIZER, *([ADVERSARY, ADVERSARY_OPTIMIZER] if state.adversary is not None else [])]
    names += [CLUSTERS] if CLUSTERS in checkpoint.files else []
    parts = {}
    for name in names:
        if name not in checkpoint.files:
            raise CheckpointError(f"{checkpoint.path / name}: {STATE} has no checksum of it, which the update needs")
        with _refused_if_foreign(checkpoint.path / name, "the update of config.yaml"):
            parts[name] = load_file(checkpoint.path / name)
    set_tensors(parts, state, checkpoint.path)
    if state.accelerator.scaler is not None and checkpoint.scaler is not None:
        state.accelerator.scaler.load_state_dict(checkpoint.scaler)
    state.feedback = dict(checkpoint.feedback)
    state.step = checkpoint.step


def _check_moments(entries: dict[int, dict[str, torch.Tensor]], optimizer: Optimizer) -> None:
    """Each parameter's moments have its shape, and its step is a number. Raises ValueError."""
    parameters = _parameters(optimizer)
    for index, entry in entries.items():
        shape = parameters[index].shape if 0 <= index < len(parameters) else None
        if shape is None or any(moment.shape not in (shape, torch.Size([])) for moment in entry.values()):
            raise ValueError(f"parameter {index} has no such moments")
        if "exp_avg" in entry and "step" not in entry:
            raise ValueError(f"parameter {index} has no step")


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` with a validation, the best of them, and as many newer ones without.

    So what is left of a run at its end does not hang on when it was saved between validations, or stopped. Damaged
    ones stay, for the user to see.
    """
    good, _ = list_checkpoints(folder)
    validated = [checkpoint for checkpoint in good if checkpoint.figures]
    last = validated[-1].step if validated else -1
    since = [checkpoint for checkpoint in good if checkpoint.step > last]
    kept = [*validated[-keep:], *since[-keep:], *([best_checkpoint(validated)] if validated else [])]
    for checkpoint in good:
        if checkpoint not in kept:
            remove_folder(checkpoint.path)
    sweep(folder)


def best_checkpoint(checkpoints: list[Checkpoint]) -> Checkpoint:
    """The one with the highest validation ELBO; the later of two equals."""

    def rank(checkpoint: Checkpoint) -> tuple[float, int]:
        elbo = checkpoint.figures.get("elbo", -math.inf)
        return (elbo if math.isfinite(elbo) else -math.inf, checkpoint.step)

    return max(checkpoints, key=rank)
