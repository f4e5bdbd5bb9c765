"""What several processes tell one another: the same bits come to all of them. Alone a process exchanges nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

ALONE = 0, 1  # the first of one process


class ProcessError(RuntimeError):
    """Another of the processes is gone, or is not of the same mind."""


def place() -> tuple[int, int]:
    """This process's number among those that have joined, from 0, and how many they are."""
    if not torch.distributed.is_initialized():
        return ALONE
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def add_up(tensors: Sequence[Tensor]) -> None:
    """Put into each tensor, all of one type, its sum over the processes: one exchange for all of them."""
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    with in_touch():
        torch.distributed.all_reduce(joined)
    for tensor, part in zip(tensors, joined.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@contextmanager
def in_touch() -> Iterator[None]:
    """Raise ProcessError where an exchange within the block finds another process gone."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ProcessError(f"another of the processes has ended, its own message says why ({reason})") from error
