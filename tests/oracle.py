"""The linear-Gaussian model, where everything is known exactly.

x = W z + b + s ε, z ~ N(0, I): log p(x) = log N(x; b, W Wᵀ + s² I), posterior N(M⁻¹ Wᵀ (x − b) / s², M⁻¹) with
M = I + Wᵀ W / s² (Tipping & Bishop 1999, "Probabilistic Principal Component Analysis").
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from latent.bound import LatentModel
from latent.distributions import diagonal_normal, standard_normal


@dataclass(frozen=True)
class VectorBatch:
    x: Tensor
    indices: Tensor
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> "VectorBatch":
        return replace(self, x=self.x.to(device), indices=self.indices.to(device))

    def take(self, rows: Tensor) -> "VectorBatch":
        return VectorBatch(self.x[rows], self.indices[rows], self.weight * len(rows) / max(1, len(self)))


class LinearGaussian(LatentModel[VectorBatch]):
    """The model with the posterior of the right mean and a scale `slack` times the best diagonal one."""

    def __init__(
        self, latent_size: int = 3, data_size: int = 5, *, orthogonal: bool = True, slack: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        w = torch.randn(data_size, latent_size, generator=generator, dtype=torch.float64)
        if orthogonal:  # then the exact posterior is diagonal
            w = torch.linalg.qr(w).Q * torch.tensor([1.5, 1.0, 0.5], dtype=torch.float64)[:latent_size]
        self.latent_size = latent_size
        self.w, self.b, self.s = torch.nn.Parameter(w), torch.randn(data_size, generator=generator).double(), 0.7
        self.slack = slack

    @property
    def precision(self) -> Tensor:
        return torch.eye(self.latent_size, dtype=torch.float64) + self.w.T @ self.w / self.s**2

    def posterior(self, batch: VectorBatch) -> Distribution:
        mean = (batch.x - self.b) @ self.w @ torch.linalg.inv(self.precision) / self.s**2
        return diagonal_normal(mean, self.slack * self.precision.diagonal().rsqrt().expand_as(mean))

    def prior(self, batch: VectorBatch) -> Distribution:
        return standard_normal(len(batch), self.latent_size, batch.x)

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        residual = (batch.x - self.b - z @ self.w.T) / self.s
        return (-0.5 * residual.square() - math.log(self.s) - 0.5 * math.log(2 * math.pi)).sum(-1)

    def marginal(self) -> Distribution:
        covariance = self.w @ self.w.T + self.s**2 * torch.eye(len(self.w), dtype=torch.float64)
        return MultivariateNormal(self.b, covariance.detach())

    def mutual_information(self) -> float:
        """Exact I_q(x; z) of orthogonal W: ½ Σ log(aggregated variance / posterior variance)."""
        return 0.5 * (self.aggregated_variance / self.posterior_variance).log().sum().item()

    def marginal_kl(self) -> float:
        """Exact KL(q_agg || p) of orthogonal W; q_agg is normal."""
        variance = self.aggregated_variance
        return 0.5 * (variance - variance.log() - 1).sum().item()

    def gain_over(self, other_variance: Tensor) -> float:
        """Exact E log p(x|z) − log p(x|z') of orthogonal W, where z' ~ N(0, other_variance) knows nothing of x."""
        strengths = self.w.square().sum(0)
        own = (strengths * (self.posterior_variance - 1 / self.precision.diagonal())).sum() + len(self.w) * self.s**2
        other = strengths.sum() + len(self.w) * self.s**2 + (strengths * other_variance).sum()
        return ((other - own) / (2 * self.s**2)).item()

    @property
    def posterior_variance(self) -> Tensor:
        return self.slack**2 / self.precision.diagonal()

    @property
    def aggregated_variance(self) -> Tensor:
        return 1 - 1 / self.precision.diagonal() + self.posterior_variance

    def draw(self, num_examples: int, seed: int = 0) -> VectorBatch:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            x = self.marginal().sample((num_examples,))
        return VectorBatch(x, torch.arange(num_examples))


def cut(batch: VectorBatch, sizes: list[int], order: Tensor) -> list[VectorBatch]:
    """The batch in pieces, in another order."""
    return [VectorBatch(batch.x[part], batch.indices[part]) for part in order.split(sizes)]
