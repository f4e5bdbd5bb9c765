"""Networks that are part of a distribution, called with their parameters held fixed or not."""

from typing import Any

import torch
from torch import nn
from torch.func import functional_call


def call(network: nn.Module, *inputs: Any, is_frozen: bool, **options: Any) -> Any:
    """What the network makes of its inputs; its parameters get no gradient where it `is_frozen`, the inputs do."""
    if not is_frozen or not torch.is_grad_enabled():
        return network(*inputs, **options)
    held = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return functional_call(network, held, inputs, options)
