"""What a training carries from step to step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor, nn
from torch.optim import Optimizer

from latent.bound import LatentModel
from latent.training.sharding import Layout, Whole


@dataclass(frozen=True)
class Adversary:
    """A network that is trained against the model, and its own optimizer. Both are in every checkpoint."""

    module: nn.Module
    optimizer: Optimizer


@dataclass
class TrainState:
    """Model, optimizer and the number of steps done; the accelerator knows the device and the precision.

    `build_model` gives the model as it is before the first step, drawn from torch's noise as it then is.

    `feedback` is what an objective or an update carries from step to step, by name: nothing at the first step. It is
    stored with every checkpoint. An objective's stays on the device, so that no step waits for it. `adversary` is there
    where the update has prepared one, `clusters`, of every training example, while the update holds them. A step takes
    `batches_per_step` batches; `seed` is the recipe's; `layout` says where weights and moments lie.
    """

    model: LatentModel[Any]
    optimizer: Optimizer
    accelerator: Accelerator
    build_model: Callable[[], LatentModel[Any]]
    seed: int = 0
    batches_per_step: int = 1
    step: int = 0
    feedback: dict[str, Tensor | float] = field(default_factory=dict)
    layout: Layout = field(default_factory=Whole)
    adversary: Adversary | None = None
    clusters: Int64[Tensor, " N"] | None = None
