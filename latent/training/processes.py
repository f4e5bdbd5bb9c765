"""Training in several processes, as torchrun and `accelerate launch` start them: what they exchange and agree on.

Every process takes its share of the batches of a step, with the whole model or its part of it (`sharding.py`). In one
process nothing is exchanged.
The values of a step are exchanged where they are; what the processes agree on is exchanged by their hosts, so that no
step waits for a GPU.
"""

import atexit
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from jaxtyping import Float, Int64
from torch import Tensor

from latent.machine import exchange
from latent.machine.exchange import ProcessError, in_touch

Value = TypeVar("Value")


def join_processes() -> PartialState:
    """The processes that have been launched together, this one among them: alone where none have been launched."""
    if "LOCAL_RANK" not in os.environ:
        return PartialState()
    if not torch.distributed.is_initialized():
        atexit.register(torch.distributed.destroy_process_group)  # else its threads may abort an exit that was in order
    if torch.cuda.is_available():
        return PartialState(backend="cpu:gloo,cuda:nccl")
    return PartialState(cpu=True, backend="gloo")


def check_share(batches_per_step: int, num_processes: int, *, shard: bool) -> None:
    """Raise ValueError where a step has no batch for one of the processes, or shards and not as many for each."""
    if shard and num_processes == 1:
        raise ValueError(
            "train.shard: one process has no other to share weights and moments with; launch several by "
            "torchrun, or set train.shard=false"
        )
    if batches_per_step < num_processes:
        raise ValueError(
            f"train.batches_per_step: {batches_per_step} cannot be shared out to {num_processes} processes; set "
            f"train.batches_per_step={num_processes}, whose steps are those of one process with that setting"
        )
    if shard and batches_per_step % num_processes:
        raise ValueError(
            f"train.shard: each of {num_processes} processes has as many batches as any other, and "
            f"train.batches_per_step is {batches_per_step}; set it to a multiple of {num_processes}"
        )


def check_same(accelerator: Accelerator, files: Mapping[str, bytes], weights: Mapping[str, Tensor]) -> None:
    """Raise ProcessError unless all processes begin with the same weights and stored files, such as the tokenizer."""
    if accelerator.num_processes == 1:
        return
    digest = hashlib.sha256(repr(sorted(files.items())).encode())
    for tensor in weights.values():
        digest.update(tensor.cpu().numpy().tobytes())
    with in_touch():
        found: list[str] = gather_object([digest.hexdigest()])
    if len(set(found)) > 1:
        raise ProcessError(
            f"the {len(found)} processes do not begin with the same tokenizer and weights: give all machines the same "
            "versions and corpus, or a TEXTVAE_CACHE that they share"
        )


def add_up(accelerator: Accelerator, tensors: Sequence[Tensor]) -> None:
    """Put into each tensor its sum over the processes: one exchange for all of them, the same bits in every process."""
    if accelerator.num_processes == 1:
        return
    exchange.add_up(tensors)


def gather_rows(
    accelerator: Accelerator, rows: Float[Tensor, "M *rest"], places: Int64[Tensor, " M"], num_rows: int
) -> Float[Tensor, "N *rest"]:
    """The rows of a whole of which this process has those at some places: what none of the others has is exact."""
    whole = rows.new_zeros(num_rows, *rows.shape[1:])
    whole[places.to(rows.device)] = rows
    add_up(accelerator, [whole])
    return whole


def largest(accelerator: Accelerator, *values: int) -> tuple[int, ...]:
    """Each number's largest value in any process."""
    if accelerator.num_processes == 1:
        return values
    found = torch.tensor(values)
    with in_touch():
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
    return tuple(map(int, found))


def of_the_first(accelerator: Accelerator, value: Callable[[], Value]) -> Value:
    """What the first process finds, in all of them; the others wait for it."""
    if accelerator.num_processes == 1:
        return value()
    found = [value() if accelerator.is_main_process else None]
    with in_touch():
        broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]


def spread(accelerator: Accelerator, tensors: Sequence[Tensor]) -> None:
    """Put the first process's values into the tensors of all."""
    if accelerator.num_processes == 1:
        return
    with in_touch(), torch.no_grad():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, src=0)
