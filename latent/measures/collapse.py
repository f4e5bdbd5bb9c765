"""What does z tell of x? Mutual information, the distance of the aggregated posterior from the prior, active units."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from latent.distributions import device_of, log_prob, pairwise_log_prob, pairwise_most, take
from latent.measures.intervals import Estimate, PerExample, bootstrap_estimate
from latent.measures.split import SplitTerms

ACTIVE_VARIANCE = 0.01
BLOCK = 512  # draws at a time against all posteriors: 10,000 of them in float64 make blocks of 40 MB
CEILING_SHARE = 0.25  # of the aggregated posterior at z_i that is x_i's own: above it log N stands in MI's way


@dataclass(frozen=True)
class MutualInformation(PerExample):
    """I_q(x; z) in nats, as the mean of N jackknife pseudo-values.

    `rows` are the N examples' places in their split: all of it, or as many as the posterior's family affords.
    `own_share` is the mean share of q(z_i|x_i) among the N posteriors at z_i: 1/N where z says nothing, 1 where no two
    posteriors overlap.
    """

    own_share: float
    rows: Int64[Tensor, " N"]

    @property
    def ceiling(self) -> float:
        """log N: the most that N examples can show."""
        return math.log(len(self.values))

    @property
    def is_at_ceiling(self) -> bool:
        """Whether the figure is only a lower bound, since posteriors hardly overlap: more examples would raise it."""
        return self.own_share > CEILING_SHARE


def mutual_information(q: Distribution, z: Float[Tensor, "N Z"]) -> MutualInformation:
    r"""\(I_q(x; z) = \mathbb{E}[\log q(z|x) - \log q_\mathrm{agg}(z)]\), in nats, aggregated over the whole split.

    `q` holds the posteriors of a split and `z` one draw of each. The plug-in estimate (Hoffman & Johnson 2016, "ELBO
    surgery"; van den Oord et al. 2018),
    \[ \hat I = \tfrac1N \sum_i a_i, \quad a_i = \log q(z_i|x_i) - \log \tfrac1N \sum_j q(z_i|x_j), \]
    has the same draw in both terms, so it is at most log N and exactly 0 for a collapsed posterior. As the N posteriors
    stand in for q_agg its bias is \(-\chi^2/2N + O(N^{-2})\), with χ² the chi-square information between x and z, and
    its summands are coupled: x_k is in every other one's mean. The jackknife (Miller 1974, "The Jackknife: A Review")
    takes care of both. With \(r_{ik} = q(z_i|x_k) / \sum_j q(z_i|x_j)\), leaving out each example in turn gives
    \[ \hat I_k = a_k + \sum_{i \ne k} \log(1 - r_{ik}) + N \log N - (N - 1) \log (N - 1); \]
    their mean is the figure without the bias of order 1/N, their standard deviation over √N its standard error. Where
    the mean exceeds log N, by at most 1 nat, the values are lowered by the excess.

    Of a family whose densities of all pairs would cost too much (`pairwise_most`: flows, which are inverted for each),
    N of the split's examples, the same ones at each call, stand for it.
    """
    rows = _affordable(q, len(z))
    if len(rows) < len(z):
        q, z = take(q, rows.to(device_of(q))), z[rows]
    z, num_examples = z.to(device_of(q)), len(z)
    own_log_prob = log_prob(q, z).double()
    log_shares, left_out = [], torch.zeros_like(own_log_prob)
    for block in torch.arange(num_examples, device=z.device).split(BLOCK):
        pairwise = pairwise_log_prob(q, z[block])
        log_total = torch.logsumexp(pairwise, 1, keepdim=True)
        log_share = own_log_prob[block, None] - log_total
        # what is left without x_k is at least x_i's own share, however a share close to 1 is rounded
        others = torch.log1p(-pairwise.sub_(log_total).exp_()).clamp_(min=log_share)
        others[torch.arange(len(block)), block] = 0.0
        left_out += others.sum(0)
        log_shares.append(log_share[:, 0])
    log_share = torch.cat(log_shares)
    values = log_share + left_out + _n_log_n(num_examples) - _n_log_n(num_examples - 1)
    excess = (values.mean() - math.log(num_examples)).clamp(min=0.0)
    return MutualInformation((values - excess).cpu(), own_share=log_share.exp().mean().item(), rows=rows)


def _affordable(q: Distribution, num_examples: int) -> Int64[Tensor, " N"]:
    """Every example, or a random choice of as many as the family affords, in their order."""
    most = pairwise_most(q)
    if most is None or num_examples <= most:
        return torch.arange(num_examples)
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(num_examples, generator=generator)[:most].sort().values


def _n_log_n(n: int) -> float:
    return n * math.log(n) if n > 0 else 0.0


def marginal_kl(split: SplitTerms, information: MutualInformation) -> PerExample:
    r"""\(\mathrm{KL}(q_\mathrm{agg} \| p) = \mathbb{E}[\log q(z|x) - \log p(z)] - I_q(x; z)\), in nats.

    How far the posteriors together are from the prior: what sampling from the prior suffers from, while only the rest
    of the KL tells of x (Hoffman & Johnson 2016). Both terms are taken at the same draws, so that log q(z_i|x_i)
    cancels; the printed closed-form KL minus MI differs by its sampling noise. Both are over the examples of
    MI. Where MI is at its ceiling this is only an upper bound.
    """
    return PerExample(split.sampled_kl[information.rows].double() - information.values)


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
