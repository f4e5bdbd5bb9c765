"""Mixtures of diagonal normals: a prior with clusters, and the bound on the KL to it."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

from latent.distributions.families import factors
from latent.distributions.heads import diagonal_normal


class NormalMixture(MixtureSameFamily):
    r"""\(p(z) = \sum_c \pi_c \, \mathcal N(z; \mu_c, \operatorname{diag} \sigma_c^2)\): batch shape B, event shape Z.

    Its densities are sums of logarithms and log-sum-exps, so that a z far from all K centres still has its nearest one,
    and they take a batch of none.
    """

    def __init__(
        self, logits: Float[Tensor, "B K"], means: Float[Tensor, "B K Z"], scales: Float[Tensor, "B K Z"]
    ) -> None:
        super().__init__(
            Categorical(logits=logits, validate_args=False), diagonal_normal(means, scales), validate_args=False
        )

    @property
    def components(self) -> Normal:
        """Every component's dimensions: batch shape B K Z."""
        base = factors(self.component_distribution)
        assert isinstance(base, Normal)
        return base

    def joint_log_prob(self, z: Float[Tensor, "*S B Z"]) -> Float[Tensor, "*S B K"]:
        """ln π_c + ln N(z; μ_c, σ_c²) of each component, in nats."""
        log_weights: Tensor = self.mixture_distribution.logits
        log_densities: Tensor = self.components.log_prob(z.unsqueeze(-2)).sum(-1)
        return log_weights + log_densities

    def log_prob(self, z: Float[Tensor, "*S B Z"]) -> Float[Tensor, "*S B"]:
        """ln p(z) in nats."""
        return torch.logsumexp(self.joint_log_prob(z), -1)

    def cluster_log_probs(self, z: Float[Tensor, "*S B Z"]) -> Float[Tensor, "*S B K"]:
        """ln p(c|z) of each component."""
        return torch.log_softmax(self.joint_log_prob(z), -1)


class NormalMixturePrior(nn.Module):
    """A learned mixture of K diagonal normals: weights by logits, variances never below `variance_floor`.

    It begins with equal weights, unit variances and centres drawn from N(0, I).
    """

    def __init__(self, num_clusters: int, latent_size: int, variance_floor: float) -> None:
        super().__init__()
        self.variance_floor = variance_floor
        self.logits = nn.Parameter(torch.zeros(num_clusters))
        self.means = nn.Parameter(torch.randn(num_clusters, latent_size))
        self.log_excess_variances = nn.Parameter(torch.zeros(num_clusters, latent_size))

    @property
    def variances(self) -> Float[Tensor, "K Z"]:
        """σ_c², the floor and what is learned above it."""
        return self.variance_floor + self.log_excess_variances.exp()

    def start_at(
        self, weights: Float[Tensor, " K"], means: Float[Tensor, "K Z"], variances: Float[Tensor, "K Z"]
    ) -> None:
        """Become the mixture with these parameters; variances at or below the floor begin just above it."""
        with torch.no_grad():
            self.logits.copy_(weights.log())
            self.means.copy_(means)
            excess = (variances - self.variance_floor).clamp(min=1e-3 * self.variance_floor)
            self.log_excess_variances.copy_(excess.log())

    def forward(self, batch_size: int) -> NormalMixture:
        """The same mixture for each example of a batch."""
        return NormalMixture(
            self.logits.expand(batch_size, -1),
            self.means.expand(batch_size, -1, -1),
            self.variances.sqrt().expand(batch_size, -1, -1),
        )


def mixture_kl_bound(q: Distribution, p: NormalMixture, z: Float[Tensor, "S B Z"]) -> Float[Tensor, " B"]:
    r"""An upper bound on KL(q || p) of a diagonal normal q, in nats, the mean over S draws z of q:

    \[ \mathbb{E}_q \ln q - \sum_c \gamma_c \big( \mathbb{E}_q \ln \mathcal N_c + \ln \pi_c - \ln \gamma_c \big),
       \quad \gamma_c = p(c|z), \]
    \[ \mathbb{E}_q \ln \mathcal N_c = \ln \mathcal N(\tilde\mu; \mu_c, \sigma_c^2)
       - \tfrac12 \sum_j \tilde\sigma_j^2 / \sigma_{cj}^2. \]

    It holds for any γ, by Jensen's inequality, and exceeds the KL by E_q KL(γ || p(c|z')): nothing where p(c|z') is
    the same all over q. Reference: Jiang et al. 2017, "Variational Deep Embedding", equation 13 and appendices A, B.
    """
    log_shares = p.cluster_log_probs(z)
    clusters = (log_shares.exp() * (_expected_joint(q, p) - log_shares)).sum(-1).mean(0)
    return -_entropy(q) - clusters


def held_cluster_kl(q: Distribution, p: NormalMixture, clusters: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
    r"""\(\mathrm{KL}(q \| \mathcal N_c) - \ln \pi_c\) of a diagonal normal q and each example's cluster c, in nats.

    With it in the place of the KL the bound is one on ln p(x, c).
    """
    return -_entropy(q) - _expected_joint(q, p).gather(-1, clusters.unsqueeze(-1)).squeeze(-1)


def _entropy(q: Distribution) -> Float[Tensor, " B"]:
    base = factors(q)
    assert base is not None
    found: Tensor = base.entropy().sum(-1)
    return found


def _expected_joint(q: Distribution, p: NormalMixture) -> Float[Tensor, "B K"]:
    """ln π_c + E_q ln N_c of each component."""
    base = factors(q)
    assert base is not None
    spread = (base.variance.unsqueeze(-2) / p.components.variance).sum(-1)
    found: Tensor = p.joint_log_prob(base.mean) - 0.5 * spread
    return found
