r"""y at coarser scales, which a structured model predicts in training beside y itself.

With ȳ the means of y, 0 where it is not scored, over squares of 2ˢ×2ˢ pixels, m̄ the shares of a square that are scored
and a logit a for each square,

\[ \sum_{s=1}^{n} \sum_i \big( \bar y_{si} a_{si} - \bar m_{si} \ln(1 + e^{a_{si}}) \big) \]

adds up, over the squares, the mean over a square's pixels of ln p(y|a), 0 for those that are not scored. It belongs to
the training loss alone: no bound and no measure has it.

Reference: Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models",
section 4.3.1, where the scales are ¼, ½ and 1; how they are weighted and how y is reduced is not in the paper.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from corpora.images import ImageBatch
from imagevae.form import ImageForm
from latent.distributions import at_least_float32


def reduced(images: Float[Tensor, "N C H W"], num_scales: int) -> Float[Tensor, "N E"]:
    """The means over squares of 2×2, 4×4, … pixels, in a row, the finest first; at the border of what there is."""
    scales = (
        F.avg_pool2d(images, 2**scale, ceil_mode=True, count_include_pad=False) for scale in range(1, num_scales + 1)
    )
    return torch.cat([each.flatten(1) for each in scales], 1)


def log_likelihood_of_reduced(
    logits: Float[Tensor, "S B E"], batch: ImageBatch, num_scales: int
) -> Float[Tensor, "S B"]:
    """The sum above, in nats, for logits that are in the order of `reduced`."""
    logits = at_least_float32(logits)
    is_scored = batch.scored if batch.scored is not None else torch.ones_like(batch.pixels, dtype=torch.bool)
    pixels = batch.pixels.to(logits.dtype)
    means = reduced(torch.where(is_scored, pixels, 0.0), num_scales)
    shares = reduced(torch.where(is_scored, torch.ones_like(pixels), 0.0), num_scales)
    return (logits * means - shares * F.softplus(logits)).sum(-1)


class CoarserOutputs(nn.Module):
    """From a network's maps at ½, ¼, … of the image's sides to logits of y at the first of these scales.

    Raises ValueError where there are fewer maps than scales.
    """

    def __init__(self, form: ImageForm, channels: Sequence[int], num_scales: int) -> None:
        super().__init__()
        if num_scales > len(channels):
            raise ValueError(
                f"model.coarser_scales: {num_scales} scales need as many maps, and model.network.channels has "
                f"{len(channels)}; set at most {len(channels)}"
            )
        self.levels = nn.ModuleList(nn.Conv2d(each, form.channels, 1) for each in channels[:num_scales])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """A row of logits for each scale, the finest first, of N images whose maps are given so too."""
        return [level(each).flatten(1) for level, each in zip(self.levels, maps, strict=False)]
