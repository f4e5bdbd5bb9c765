"""The posterior of BN-VAE: means normalised over the batch, in evaluation by running statistics of the batches."""

from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.distributions.heads import Head, at_least_float32, diagonal_normal
from latent.distributions.priors import StandardNormalPriorConfig

VARIANCE_EPSILON = 1e-8  # added to the variance of the means before they are divided by its root
MOMENTUM = 0.1  # of the running statistics: the weight of a batch of the usual size


@dataclass(frozen=True, kw_only=True)
class BatchNormHeadConfig:
    """A diagonal normal whose means are batch-normalised: a floor of Z γ²/2 nats under the mean KL to N(0, I)."""

    kind: Literal["batch_norm"] = "batch_norm"
    gamma: PositiveFloat = 0.6  # standard deviation of each dimension's means over a batch
    priors: ClassVar = (StandardNormalPriorConfig,)
    least_size: ClassVar = 1
    is_free: ClassVar = True
    is_product: ClassVar = True

    def build(self, num_features: int, latent_size: int) -> "BatchNormHead":
        """The head from features of this size."""
        return BatchNormHead(num_features, latent_size, self.gamma)


class Moments(NamedTuple):
    """Mean and variance of a group of examples, its size, and the share that it leaves of the weight of those before.

    As a row they are 2 + 2Z numbers, in this order.
    """

    kept: Float[Tensor, ""]
    size: Float[Tensor, ""]
    mean: Float[Tensor, " Z"]
    variance: Float[Tensor, " Z"]

    def then(self, later: "Moments") -> "Moments":
        """The two groups together, of which this one has faded; of size 0, and 0 throughout, where both are."""
        size = later.kept * self.size + later.size
        share = (later.size * size.reciprocal()).nan_to_num(0.0)
        step = later.mean - self.mean
        variance = self.variance + (share * (later.variance - self.variance) + share * (1 - share) * step.square())
        return Moments(self.kept * later.kept, size, self.mean + share * step, variance)


class BatchNormHead(Head):
    r"""A diagonal normal with means \(\hat\mu_j = \gamma (\mu_j - m_j) / \sqrt{s_j^2 + 10^{-8}} + b_j\), b learned.

    In training m and s² are the mean and variance of μ over the batch, so that wherever s² is far above 10⁻⁸
    \[ \tfrac1B \sum_i \mathrm{KL}(q(z|x_i) \| \mathcal N(0, I)) \ge \tfrac12 \sum_j (\gamma^2 + b_j^2). \]
    In evaluation they are running statistics of the training batches, of which each example weighs the same within its
    batch and from batch to batch, and of which the spread between batches is a part: batches of sentences of like
    length differ. A batch of one has no variance: in training too it is normalised by the running statistics, and
    leaves them as they are.

    A forward pass leaves the running statistics as they are, too. It remembers its batch, and whoever steps the model
    folds into them what `take_seen` gives: all batches of a step in their order, whichever processes have had them.

    Reference: Zhu et al. 2020, "A Batch Normalized Inference Network Keeps the KL Vanishing Away", equations 7 to 9.
    """

    def __init__(self, num_features: int, latent_size: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.mean = nn.Linear(num_features, latent_size, bias=False)  # normalising would take a bias away
        self.log_variance = nn.Linear(num_features, latent_size)
        self.shift = nn.Parameter(torch.zeros(latent_size))
        self.running_mean: Tensor
        self.running_variance: Tensor
        self.running_size: Tensor
        self.register_buffer("running_mean", torch.zeros(latent_size))
        self.register_buffer("running_variance", torch.ones(latent_size))
        self.register_buffer("running_size", torch.zeros(()))  # of a batch; 0 before the first
        self._seen: list[Moments] = []

    def forward(self, features: Float[Tensor, "B H"]) -> Distribution:
        """Return q with batch shape B and event shape Z."""
        log_variance = at_least_float32(self.log_variance(features))
        means = at_least_float32(self.mean(features))
        if self.training and len(means) > 1:
            variance, mean = torch.var_mean(means, 0, correction=0)
            kept, size = (mean.new_full((), number) for number in (1 - MOMENTUM, MOMENTUM * len(means)))
            self._seen.append(Moments(kept, size, mean.detach(), variance.detach()))
        else:
            mean, variance = self.running_mean, self.running_variance
        normalised = (means - mean) * (variance + VARIANCE_EPSILON).rsqrt()
        return diagonal_normal(self.gamma * normalised + self.shift, (0.5 * log_variance).exp())

    @property
    def row_size(self) -> int:
        """M of the rows below: moments of Z dimensions."""
        return 2 + 2 * len(self.running_mean)

    def take_seen(self) -> Float[Tensor, " M"]:
        """The batches since the last call together, as a row, which are forgotten; one that changes nothing if none."""
        none, zeros = self.running_size.new_zeros(()), torch.zeros_like(self.running_mean)
        kept, size, mean, variance = reduce(Moments.then, self._seen or [Moments(none + 1, none, zeros, zeros)])
        self._seen.clear()
        return torch.cat([kept[None], size[None], mean, variance])

    def fold(self, row: Float[Tensor, " M"]) -> None:
        """Let the running statistics go on by the moments of later batches."""
        kept, size = row[:2]
        mean, variance = row[2:].chunk(2)
        before = Moments(torch.ones_like(kept), self.running_size, self.running_mean, self.running_variance)
        after = before.then(Moments(kept, size, mean, variance))
        self.running_size.copy_(after.size)
        self.running_mean.copy_(after.mean)
        self.running_variance.copy_(after.variance)
