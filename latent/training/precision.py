"""Device and precision, by accelerate."""

from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from latent.machine.products import has_bf16_products
from latent.training.processes import join_processes

Precision = Literal["auto", "fp32", "bf16", "fp16"]
MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def resolve_precision(precision: Precision) -> Precision:
    """What `auto` means here: bf16 where the machine has fast products in it, else fp32.

    Raises ValueError for fp16 without a CUDA device, where it has no fast products and no loss scaling.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("train.precision: fp16 needs a CUDA device; use auto, bf16 or fp32")
    if precision != "auto":
        return precision
    return "bf16" if has_bf16_products() else "fp32"


def open_accelerator(precision: Precision) -> Accelerator:
    """An accelerator on the best device here. `precision` is one of auto, fp32, bf16, fp16."""
    # accelerate keeps one precision for a whole process; two trainings in one process may differ.
    AcceleratorState._reset_state(reset_partial_state=False)
    join_processes()
    return Accelerator(mixed_precision=MIXED_PRECISION[resolve_precision(precision)])
