"""How large a model is that a recipe asks for: refused before there is memory behind it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from latent.training.config import Tree

COPIES = {"adamw": 4, "sgd": 2}  # weights, gradients, and Adam's two moments
MOST_TENSORS = 20_000  # of a model: more of them fill the memory by their names
IS_SIZE = re.compile("size|channels|length|num_|width|components")
SPARE = 2**24  # bytes, and twice what a checkpoint has: buffers that are not in it, weights that are exchanged


class SizeError(ValueError):
    """A model that is larger than the machine, or than the checkpoint that it is to be read from."""

    exit_code = 2


def best_device() -> torch.device:
    """Where models are."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def room_in_memory(source: str, tree: Tree, device: torch.device) -> Iterator[None]:
    """Within the block a model is made that a recipe trains: 16 bytes a weight with Adam, 8 without moments.

    With `train.shard` it is 4, of the weights that are made before they are shared out.

    Raises SizeError, naming `source` and a key of the model, where the memory that is free is less.
    """
    is_cuda = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if is_cuda else psutil.virtual_memory().available
    train = tree["train"]
    copies = 1 if train["shard"] else COPIES[train["optimizer"]]
    limit = f"training takes {4 * copies} bytes of each, and {free / 1e9:,.1f} GB are free on {device.type}"
    with _room(free // copies, source, tree, limit):
        yield


@contextmanager
def room_in_files(source: str, tree: Tree, files: Sequence[Path]) -> Iterator[None]:
    """Within the block a model is made whose weights are to be read from these files.

    Raises SizeError, naming `source` and a key of the model, where it asks for much more than they have.
    """
    size = sum(path.stat().st_size for path in files if path.is_file())
    with _room(2 * size + SPARE, source, tree, f"its checkpoint has {size:,} bytes"):
        yield


@contextmanager
def _room(most: int, source: str, tree: Tree, limit: str) -> Iterator[None]:
    """Within the block modules are given `most` bytes of parameters and buffers at most.

    A layer gives its module each tensor before it fills it, and a tensor that is not filled takes no memory.
    """
    num_bytes = num_tensors = num_weights = 0

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal num_bytes, num_tensors, num_weights
        if tensor is None:
            return
        num_tensors, num_weights = num_tensors + 1, num_weights + tensor.numel()
        num_bytes += tensor.numel() * tensor.element_size()
        if num_bytes > most or num_tensors > MOST_TENSORS:
            raise SizeError(f"{source}: {_largest(tree)}: asks for {num_weights:,} weights or more; {limit}")

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    except (RuntimeError, TypeError) as error:  # of torch: a single tensor of more than can be had, or be counted
        reason = " ".join(str(error).split())[:200]
        raise SizeError(f"{source}: {_largest(tree)}: no such model can be made ({reason}); {limit}") from error
    finally:
        for hook in hooks:
            hook.remove()


def _largest(tree: Tree) -> str:
    """The largest size among the keys of a recipe's model and update: it is likely to be meant."""
    found = {key: number for part in ("model", "update") for key, number in _numbers(part, tree.get(part))}
    key = max(filter(IS_SIZE.search, found), key=lambda key: found[key], default="")
    return f"{key}={found[key]}" if key else "model"


def _numbers(path: str, node: Any) -> Iterator[tuple[str, int]]:
    if type(node) is int:
        yield path, node
    elif type(node) in (dict, list):
        below = node.items() if type(node) is dict else enumerate(node)
        for key, value in below:
            yield from _numbers(f"{path}.{key}", value)
