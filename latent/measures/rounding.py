"""The precision of the decoder's products in importance weighting, and what it does to the likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latent.bound import BatchT, LatentModel
from latent.machine.products import has_bf16_products
from latent.measures.split import SplitTerms, log_likelihood_at

Precision = Literal["auto", "fp32", "bf16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = 0.02  # nats of the mean NLL, the most by which `auto` lets it differ from float32's


@dataclass(frozen=True)
class Rounding:
    r"""How products in `precision` are to be judged: `bias` is what they do to the mean NLL, in nats, by estimate.

    A rounding error \(\epsilon\) of log p(x|z) moves \(\log \frac1K \sum_k w_k\) by its mean, and by half its variance
    at most since \(\log \mathbb{E} e^\epsilon \approx \mathbb{E}\epsilon + \mathrm{var}(\epsilon) / 2\). The sum of
    both sizes is given; 0 in float32.
    """

    precision: Literal["fp32", "bf16"]
    bias: float

    @property
    def dtype(self) -> torch.dtype:
        """Of the products; all sums and exponentials are float32 or wider."""
        return DTYPES[self.precision]


def choose_rounding(
    model: LatentModel[BatchT],
    batches: Sequence[BatchT],
    split: SplitTerms,
    device: torch.device,
    precision: Precision,
) -> Rounding:
    """The precision to weigh the draws of a split in, checked against float32 at the draws that `split` holds.

    `auto` takes bf16 where the machine has fast products in it and the mean NLL moves by at most 0.02 nats.
    """
    if precision == "fp32" or (precision == "auto" and not has_bf16_products()):
        return Rounding("fp32", 0.0)
    error = rounding_error(model, batches, split, device).double()
    bias = (error.mean().abs() + error.var(correction=0) / 2).item()
    if precision == "auto" and not bias <= TOLERANCE:
        return Rounding("fp32", 0.0)
    return Rounding("bf16", bias)


def rounding_error(
    model: LatentModel[BatchT], batches: Sequence[BatchT], split: SplitTerms, device: torch.device
) -> Tensor:
    """log p(x|z) with products in bfloat16, less that in float32: nats, of each of N examples at its own draw of z."""
    with torch.autocast(device.type, torch.bfloat16):
        rounded = log_likelihood_at(model, batches, split.z, device)
    return rounded + split.reconstruction
