"""Which kernels have a second derivative."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Within the block a gradient of a gradient can be had of every layer.

    cuDNN's recurrent layers and the fused attention have no second derivative: torch's own recurrent kernels and the
    attention written out take their place. On a CPU oneDNN's LSTM has one, and stays. Random numbers drawn in a layer
    (attention's dropout) hang on the kernel: what is to be repeated must be within such a block both times.
    """
    with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield
