"""What a training carries from step to step."""

from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch.optim import Optimizer

from latent.bound import LatentModel


@dataclass
class TrainState:
    """Model, optimizer and the number of steps done; the accelerator knows the device and the precision."""

    model: LatentModel[Any]
    optimizer: Optimizer
    accelerator: Accelerator
    step: int = 0
