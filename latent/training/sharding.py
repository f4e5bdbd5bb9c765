"""`train.shard`: of weights, gradients and moments each process keeps its part, by torch's FSDP2.

A layer's weights are brought together for as long as it is computed with, forward and backward, and its gradients are
added up part by part. Reference: Rajbhandari et al. 2020, "ZeRO", stage 3; Zhao et al. 2023, "PyTorch FSDP".
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from latent.bound import LatentModel

Tensors = dict[str, Tensor]


def check_layers(name: str, *, has_layers: bool) -> None:
    """Raise ValueError where a model of this name has nothing to share out."""
    if not has_layers:
        raise ValueError(
            f"train.shard: {name} has no layers of which one is needed at a time, so that every process would hold "
            "all of it; set train.shard=false"
        )


@runtime_checkable
class Layout(Protocol):
    """Where the tensors of a training lie. All processes call each of these together."""

    is_sharded: bool

    def own(self, tensor: Tensor) -> Tensor:
        """This process's part."""

    def all_of(self, tensor: Tensor) -> Tensor:
        """All of it, in every process."""

    def to_save(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """All of each, for the first process to write; in the others they may be missing."""

    def like(self, tensors: Mapping[str, Tensor], those: Mapping[str, Tensor]) -> Tensors:
        """Each as the one of its name lies, where that has its shape."""

    def opened(self, model: LatentModel[Any]) -> AbstractContextManager[None]:
        """Within the block all methods of the model can be called, not only its `forward`."""


class Whole:
    """Every process has all of each tensor."""

    is_sharded = False

    def own(self, tensor: Tensor) -> Tensor:
        """It."""
        return tensor

    def all_of(self, tensor: Tensor) -> Tensor:
        """It."""
        return tensor

    def to_save(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Them."""
        return dict(tensors)

    def like(self, tensors: Mapping[str, Tensor], those: Mapping[str, Tensor]) -> Tensors:
        """Them."""
        return dict(tensors)

    def opened(self, model: LatentModel[Any]) -> AbstractContextManager[None]:
        """Nothing is to be done."""
        return nullcontext()


class Sharded:
    """Every process has its rows of each parameter and of its moments, and all of what is no parameter."""

    is_sharded = True

    def __init__(self, model: LatentModel[Any], *, writes: bool) -> None:
        """Shard a model in place: its layers one by one, and what is beside them together.

        Its parameters are others from now on. Raises ValueError for a model without layers.
        """
        check_layers(type(model).__name__, has_layers=bool(model.layers))
        from torch.distributed.fsdp import fully_shard  # it takes seconds to import
        from torch.distributed.tensor import DTensor, distribute_tensor

        self._writes, self._type, self._distribute = writes, DTensor, distribute_tensor
        # nothing is done in place on a model's terms
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
        for module in (*model.layers, model):
            sharded = fully_shard(module)
            sharded.set_gradient_divide_factor(1.0)  # a sum, as the losses are weighted
            sharded.set_force_sum_reduction_for_comms(True)  # gloo has no other

    def own(self, tensor: Tensor) -> Tensor:
        """The rows that are here."""
        return tensor.to_local() if isinstance(tensor, self._type) else tensor

    def all_of(self, tensor: Tensor) -> Tensor:
        """All rows, of all processes."""
        return tensor.full_tensor() if isinstance(tensor, self._type) else tensor

    def to_save(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """In the first process's memory one after the other, so that no device has more than one whole."""
        found = {}
        for name, tensor in tensors.items():
            whole = self.all_of(tensor)
            if self._writes:
                found[name] = whole.cpu()
        return found

    def like(self, tensors: Mapping[str, Tensor], those: Mapping[str, Tensor]) -> Tensors:
        """The rows that are to be here, without an exchange: each process has read them all."""
        return {name: self._like(tensor, those.get(name, tensor)) for name, tensor in tensors.items()}

    def _like(self, tensor: Tensor, other: Tensor) -> Tensor:
        if not isinstance(other, self._type) or tensor.shape != other.shape:
            return tensor
        whole = tensor.to(other.device)
        return self._distribute(whole, other.device_mesh, other.placements, src_data_rank=None)

    @contextmanager
    def opened(self, model: Any) -> Iterator[None]:
        """What is beside the layers is whole; the layers are brought together as in `forward`."""
        model.unshard()
        try:
            yield
        finally:
            model.reshard()
