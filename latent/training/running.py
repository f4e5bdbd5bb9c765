"""Running statistics over a step's batches: they go into a model in order, whichever processes have had them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent.distributions import BatchNormHead


def running_parts(model: nn.Module) -> list[BatchNormHead]:
    """The parts of a model that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, BatchNormHead)]


def take_seen(parts: Sequence[BatchNormHead]) -> Float[Tensor, "1 M"]:
    """What the forward passes since the last call add to the running statistics: of no width where there are none."""
    return torch.cat([part.take_seen() for part in parts]).unsqueeze(0) if parts else torch.empty(1, 0)


def fold(parts: Sequence[BatchNormHead], seen: Float[Tensor, "K M"]) -> None:
    """Put into the running statistics what each of K batches adds to them, one after the other."""
    widths = [part.row_size for part in parts]
    for row in seen:
        for part, own in zip(parts, row.split(widths), strict=True):
            part.fold(own)


def check_statistics(model: nn.Module, num_processes: int) -> None:
    """Raise ValueError for several processes and running statistics of a kind that each would have of its own."""
    known = {id(buffer) for part in running_parts(model) for buffer in part.buffers()}
    others = [name for name, buffer in model.named_buffers() if id(buffer) not in known]
    running = [name for name in others if name.rpartition(".")[2].startswith("running_")]
    if running and num_processes > 1:
        raise ValueError(
            f"{type(model).__name__} keeps running statistics of its batches ({', '.join(running)}), which several "
            "processes would not have in common; train it in one process"
        )
