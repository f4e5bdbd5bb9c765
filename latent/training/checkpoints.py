"""Checkpoints: safetensors and JSON, checksummed, whole or absent. Nothing in them is ever unpickled."""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer

from latent.bound import LatentModel
from latent.training.files import checksum, folder_written_atomically, remove_folder, sweep
from latent.training.state import TrainState

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
CLUSTERS = "clusters.safetensors"  # of an update that holds them
ADVERSARY, ADVERSARY_OPTIMIZER = "adversary.safetensors", "adversary_optimizer.safetensors"  # of an update that has one
NAME = re.compile(r"step-(\d{6,})")


class CheckpointError(ValueError):
    """A checkpoint that is damaged or does not fit the model."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder `step-000500` and what its state file says."""

    path: Path
    step: int
    figures: dict[str, float]
    scaler: dict[str, Any] | None  # of float16's gradients
    feedback: dict[str, float] = field(default_factory=dict)  # of the objective and the update


def save_checkpoint(folder: Path, state: TrainState, figures: dict[str, float]) -> Path:
    """Write the state under `folder/step-NNNNNN`; on an error (a full disk) nothing stands under that name."""
    path = folder / f"step-{state.step:06d}"
    folder.mkdir(exist_ok=True)
    with folder_written_atomically(path) as temporary:
        model = state.accelerator.unwrap_model(state.model)
        parts = {MODEL: _module_tensors(model), OPTIMIZER: _optimizer_tensors(state.optimizer)}
        if state.adversary is not None:
            parts[ADVERSARY] = _module_tensors(state.adversary.module)
            parts[ADVERSARY_OPTIMIZER] = _optimizer_tensors(state.adversary.optimizer)
        if state.clusters is not None:
            parts[CLUSTERS] = {"clusters": state.clusters}
        for name, tensors in parts.items():
            _save_tensors(tensors, temporary / name)
        files = {name: checksum(temporary / name) for name in parts}
        scaler = state.accelerator.scaler
        described: dict[str, Any] = {"step": state.step, "figures": figures, "files": files}
        described["feedback"] = {name: float(value) for name, value in state.feedback.items()}
        described["scaler"] = None if scaler is None else scaler.state_dict()
        (temporary / STATE).write_text(json.dumps({**described, "checksum": _digest(described)}, indent=1) + "\n")
    return path


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # it says so of a full disk too, and is no OSError
        raise OSError(f"{path.name}: {error}") from error


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
        described: dict[str, Any] = json.loads((path / STATE).read_text("utf-8"))
        if described.pop("checksum", None) != _digest(described):
            raise CheckpointError(f"{path / STATE}: damaged (it has no checksum, or another than its content's)")
        known = {ADVERSARY, ADVERSARY_OPTIMIZER, CLUSTERS} & described["files"].keys()
        for name in (MODEL, OPTIMIZER, *sorted(known)):
            if checksum(path / name) != described["files"][name]:
                raise CheckpointError(f"{path / name}: damaged (its checksum is not the one in {STATE})")
        figures = {str(key): float(value) for key, value in described["figures"].items()}
        feedback = {str(key): float(value) for key, value in described.get("feedback", {}).items()}
        step = int(described["step"])
        if step < 0:
            raise CheckpointError(f"{path / STATE}: damaged (step {step})")
        return Checkpoint(path, step, figures, described.get("scaler"), feedback)
    except OSError as error:
        raise CheckpointError(f"{path}: damaged ({error.strerror}: {Path(error.filename or path).name})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if type(error) is CheckpointError:
            raise
        raise CheckpointError(f"{path / STATE}: damaged ({error})") from error


def _digest(described: dict[str, Any]) -> str:
    """A checksum of the state file's own content."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def load_model(checkpoint: Checkpoint, model: LatentModel[Any]) -> None:
    """Load the weights. Raises CheckpointError if they are not the model's."""
    _load_module(checkpoint.path / MODEL, model)


def _load_module(path: Path, module: nn.Module) -> None:
    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: does not fit the model of config.yaml: {reason}") from error


def _load_optimizer(path: Path, optimizer: Optimizer) -> None:
    try:
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in load_file(path).items():
            index, _, key = name.partition(".")
            entries.setdefault(int(index), {})[key] = tensor
        _check_moments(entries, optimizer)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: does not fit the optimizer ({error})") from error


def load_state(checkpoint: Checkpoint, state: TrainState) -> None:
    """Load weights, moments, feedback and step, so that training goes on as if it had never stopped."""
    load_model(checkpoint, state.accelerator.unwrap_model(state.model))
    _load_optimizer(checkpoint.path / OPTIMIZER, state.optimizer)
    if state.adversary is not None:
        _load_module(checkpoint.path / ADVERSARY, state.adversary.module)
        _load_optimizer(checkpoint.path / ADVERSARY_OPTIMIZER, state.adversary.optimizer)
    if (checkpoint.path / CLUSTERS).exists():
        state.clusters = load_file(checkpoint.path / CLUSTERS, str(state.accelerator.device))["clusters"]
    if state.accelerator.scaler is not None and checkpoint.scaler is not None:
        state.accelerator.scaler.load_state_dict(checkpoint.scaler)
    state.feedback = dict(checkpoint.feedback)
    state.step = checkpoint.step


def _check_moments(entries: dict[int, dict[str, torch.Tensor]], optimizer: Optimizer) -> None:
    """Each parameter's moments have its shape, and its step is a number. Raises ValueError."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entry in entries.items():
        shape = parameters[index].shape if 0 <= index < len(parameters) else None
        if shape is None or any(moment.shape not in (shape, torch.Size([])) for moment in entry.values()):
            raise ValueError(f"parameter {index} has no such moments")
        if "exp_avg" in entry and "step" not in entry:
            raise ValueError(f"parameter {index} has no step")


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` and the best; damaged ones stay, for the user to see."""
    good, _ = list_checkpoints(folder)
    best = best_checkpoint(good)
    for checkpoint in good[:-keep]:
        if checkpoint != best:
            remove_folder(checkpoint.path)
    sweep(folder)


def best_checkpoint(checkpoints: list[Checkpoint]) -> Checkpoint:
    """The one with the highest validation ELBO; the later of two equals."""

    def rank(checkpoint: Checkpoint) -> tuple[float, int]:
        elbo = checkpoint.figures.get("elbo", -math.inf)
        return (elbo if math.isfinite(elbo) else -math.inf, checkpoint.step)

    return max(checkpoints, key=rank)
