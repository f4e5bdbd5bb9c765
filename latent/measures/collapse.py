"""Is the latent variable used? Mutual information, active units and the gain that the decoder has from its own z."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import BatchT, LatentModel
from latent.distributions import log_prob, pairwise_log_prob
from latent.measures.intervals import Estimate, bootstrap_estimate, mean_estimate
from latent.measures.split import SplitTerms, evaluating, restore_order

ACTIVE_VARIANCE = 0.01
BLOCK = 1024  # draws at a time against all posteriors: 10,000 of them in float64 make blocks of 80 MB


def mutual_information(q: Distribution, z: Float[Tensor, "N Z"]) -> Estimate:
    r"""\(I_q(x; z) \approx \frac1N \sum_i [\log q(z_i|x_i) - \log \frac1N \sum_j q(z_i|x_j)]\), in nats.

    `q` holds the posteriors of a whole split and `z` one draw of each. The same draw stands in both terms, so the
    value is at most log N and exactly 0 for a collapsed posterior. Reference: Hoffman & Johnson 2016, "ELBO surgery".
    """
    num_examples = len(z)
    z = z.to(q.mean.device)
    own_log_prob = log_prob(q, z).double()
    aggregated = torch.cat([torch.logsumexp(pairwise_log_prob(q, part), 1) for part in z.split(BLOCK)])
    return mean_estimate((own_log_prob - aggregated + math.log(num_examples)).cpu())


@dataclass(frozen=True)
class ActiveUnits:
    """How many latent dimensions are active, at three thresholds, and the variances behind the counts."""

    count: Estimate
    count_at_0_001: int
    count_at_0_1: int
    variances: Float[Tensor, " Z"]


def active_units(means: Float[Tensor, "N Z"], seed: int = 0) -> ActiveUnits:
    r"""Dimensions with \(\mathrm{Var}_x(\mathbb{E}[z_j|x]) \ge 0.01\) (Burda et al. 2016, section 5.2).

    Also counted at 0.001 and 0.1. The interval of the count is a bootstrap over the N examples.
    """
    means = means.double()
    centred = means - means.mean(0)

    def variances(weights: Float[Tensor, "R N"]) -> Float[Tensor, "R Z"]:
        return weights @ centred.square() - (weights @ centred).square()

    def count(weights: Float[Tensor, "R N"]) -> Float[Tensor, " R"]:
        return (variances(weights) >= ACTIVE_VARIANCE).sum(-1).double()

    found = centred.square().mean(0)
    return ActiveUnits(
        count=bootstrap_estimate(count, len(means), seed),
        count_at_0_001=int((found >= 0.001).sum()),
        count_at_0_1=int((found >= 0.1).sum()),
        variances=found.float(),
    )


def shuffled_gain(
    model: LatentModel[BatchT], batches: Sequence[BatchT], split: SplitTerms, device: torch.device, seed: int = 0
) -> Estimate:
    """How many nats an example's own z is worth to the decoder over another example's z: 0 when z is ignored.

    E[log p(x_i|z_i) − log p(x_i|z_j)], where j runs over the split in a random cycle, so that none keeps its own z.
    Raises ValueError for a split of one example, where there is no other z.
    """
    if len(split) < 2:
        raise ValueError("the shuffled-z gain needs at least two examples: use a larger split")
    cycle = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    other_z = torch.empty_like(split.z)
    other_z[cycle] = split.z[cycle.roll(1)]
    with evaluating(model, seed):
        found = [
            model.log_likelihood(other_z[batch.indices].to(device).unsqueeze(0), batch.to(device))[0].cpu()
            for batch in batches
        ]
    log_likelihood = torch.cat(found)[restore_order(batches)]
    return mean_estimate(-split.reconstruction - log_likelihood)
