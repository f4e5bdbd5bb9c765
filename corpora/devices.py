"""How a batch gets to the device."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device. To a GPU it goes by way of pinned memory, and the copy need not be over on return."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # from other memory the copy would wait
    return tensor.to(device, non_blocking=True)
