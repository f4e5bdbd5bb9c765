"""Does the decoder heed z? What an example's own z is worth to it over a z that knows nothing of the example."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from latent.bound import BatchT, LatentModel
from latent.measures.intervals import Estimate, PerExample, chain_estimate
from latent.measures.split import SplitTerms, evaluating, log_likelihood_at, require_finite, restore_order

PRIOR_STREAM = 2**31  # added to the seed, else the prior's draws were the posteriors' noise; torch reads 32 bits of it


@dataclass(frozen=True)
class ShuffledGain(PerExample):
    """The gain of each example over the z of its neighbour in `cycle`, so that each z is in two neighbours' values."""

    cycle: Int64[Tensor, " N"]

    @property
    def estimate(self) -> Estimate:
        """The mean and its interval, in which the neighbours' covariance counts."""
        return chain_estimate(self.values[self.cycle])


def shuffled_gain(
    model: LatentModel[BatchT], batches: Sequence[BatchT], split: SplitTerms, device: torch.device, seed: int = 0
) -> ShuffledGain:
    """How many nats an example's own z is worth to the decoder over another example's z: 0 when z is ignored.

    E[log p(x_i|z_i) − log p(x_i|z_j)], with the z_j of `shuffled_z`.
    """
    log_likelihood = log_likelihood_at(model, batches, shuffled_z(split, seed), device, seed)
    return ShuffledGain(gain_over(split, log_likelihood), shuffle_cycle(len(split), seed))


def prior_gain(
    model: LatentModel[BatchT], batches: Sequence[BatchT], split: SplitTerms, device: torch.device, seed: int = 0
) -> PerExample:
    """How many nats an example's own z is worth to the decoder over a draw of the prior: 0 when z is ignored.

    E[log p(x_i|z_i) − log p(x_i|z)], with the z of `prior_z`. Far above the shuffled gain, it says that the decoder is
    lost where the prior lies and the posteriors do not.
    """
    other_z = prior_z(model, batches, device, seed)
    return PerExample(gain_over(split, log_likelihood_at(model, batches, other_z, device, seed)))


def shuffled_z(split: SplitTerms, seed: int = 0) -> Float[Tensor, "N Z"]:
    """Another example's z for each example: a random cycle through the split, so that none keeps its own.

    Raises ValueError for a split of one example, where there is no other z.
    """
    if len(split) < 2:
        raise ValueError("the shuffled-z gain needs at least two examples: use a larger split")
    cycle = shuffle_cycle(len(split), seed)
    other_z = torch.empty_like(split.z)
    other_z[cycle] = split.z[cycle.roll(1)]
    return other_z


def shuffle_cycle(num_examples: int, seed: int) -> Int64[Tensor, " N"]:
    """A random order of the examples, in which each is given the z of the one before it."""
    return torch.randperm(num_examples, generator=torch.Generator().manual_seed(seed))


def prior_z(
    model: LatentModel[BatchT], batches: Sequence[BatchT], device: torch.device, seed: int = 0
) -> Float[Tensor, "N Z"]:
    """A draw of the prior for each example, in the split's order."""
    with evaluating(model, seed + PRIOR_STREAM):
        drawn = [model.prior(batch.to(device)).sample().cpu() for batch in batches]
    return torch.cat(drawn)[restore_order(batches)]


def gain_over(split: SplitTerms, log_likelihood: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """How many nats each example's own z is worth over the z at which it has this log-likelihood, which is finite."""
    require_finite(torch.isfinite(log_likelihood), "log p(x|z) at a z that is not the example's own")
    return -split.reconstruction - log_likelihood
