"""Device and precision, by accelerate."""

from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

Precision = Literal["auto", "fp32", "bf16", "fp16"]
MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def resolve_precision(precision: Precision) -> Precision:
    """What `auto` means here: bf16 where the processor has products in it, else fp32.

    Raises ValueError for fp16 without a CUDA device, where it has no fast products and no loss scaling.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("train.precision: fp16 needs a CUDA device; use auto, bf16 or fp32")
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.backends.mkldnn.is_available() and _cpu_has_bf16_products() else "fp32"


def _cpu_has_bf16_products() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("amx"))


def open_accelerator(precision: Precision) -> Accelerator:
    """An accelerator on the best device here. `precision` is one of auto, fp32, bf16, fp16."""
    # accelerate keeps one precision for a whole process; two trainings in one process may differ.
    AcceleratorState._reset_state(reset_partial_state=False)
    return Accelerator(mixed_precision=MIXED_PRECISION[resolve_precision(precision)])
