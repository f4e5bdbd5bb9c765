"""The distance of the aggregated posterior from the prior by draws of both: maximum mean discrepancy."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from latent.bound.terms import ElboTerms


@dataclass(frozen=True, kw_only=True)
class Mmd:
    r"""A penalty on MMD² between q_agg(z), the mean of the batch's posteriors, and the prior.

    \[ \frac1{B(B-1)} \sum_{i \ne j} \big( k(z_i, z_j) + k(z'_i, z'_j) \big) - \frac2{B^2} \sum_{i,j} k(z_i, z'_j) \]

    with one z of each posterior and B draws z' of the prior: unbiased (Gretton et al. 2012, "A Kernel Two-Sample Test",
    equation 3), so it may be negative. With S draws for each example it is the mean of S such figures: two draws of one
    posterior are not two draws of q_agg.

    `imq` is C / (C + ‖z − z'‖²) with C = 2d, the mean of ‖z − z'‖² between draws of N(0, I) in d dimensions (Tolstikhin
    et al. 2018, "Wasserstein Auto-Encoders"); `rbf` is the Gaussian kernel exp(−‖z − z'‖² / d) (Zhao et al. 2017,
    "InfoVAE"), as wide as those distances too.
    """

    weight: PositiveFloat
    kernel: Literal["imq", "rbf"] = "imq"

    def __call__(self, terms: ElboTerms) -> Float[Tensor, ""]:
        """MMD² of a batch, unweighted; 0 for a batch of one, of which it says nothing, and for a z without dimensions.

        Raises ValueError for a model whose prior cannot be drawn from.
        """
        if terms.prior is None:
            raise ValueError("objective.mmd: this model gives no prior to draw from; set objective.mmd=null")
        if terms.z.shape[1] < 2 or terms.z.shape[2] == 0:
            return terms.z.new_zeros(())
        drawn = terms.prior.sample(torch.Size([len(terms.z)])).to(terms.z.dtype)
        return self.squared_discrepancy(terms.z, drawn).mean()

    def squared_discrepancy(self, z: Float[Tensor, "S B Z"], other: Float[Tensor, "S B Z"]) -> Float[Tensor, " S"]:
        """The unbiased MMD² between two sets of B ≥ 2 draws each."""
        return (
            _mean_of_pairs(self._kernel(z, z))
            + _mean_of_pairs(self._kernel(other, other))
            - 2 * self._kernel(z, other).mean((-2, -1))
        )

    def _kernel(self, a: Float[Tensor, "S B Z"], b: Float[Tensor, "S B Z"]) -> Float[Tensor, "S B B"]:
        size = a.shape[-1]
        norms = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
        distance = (norms - 2.0 * a @ b.mT).clamp(min=0.0)  # squared; rounding can make it negative
        if self.kernel == "rbf":
            return torch.exp(-distance / size)
        return 2.0 * size / (2.0 * size + distance)


def _mean_of_pairs(kernel: Float[Tensor, "S B B"]) -> Float[Tensor, " S"]:
    """The mean over i ≠ j: a draw beside itself is what makes the plain mean biased."""
    num_draws = kernel.shape[-1]
    off_diagonal = kernel.sum((-2, -1)) - kernel.diagonal(dim1=-2, dim2=-1).sum(-1)
    return off_diagonal / (num_draws * (num_draws - 1))
