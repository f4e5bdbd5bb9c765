r"""Inference gaps: how much of the bound's distance from log p(x) is the family's, and how much the encoder's.

\[ \log p(x) - \mathcal L[q] = \underbrace{\log p(x) - \mathcal L[q^*]}_\text{approximation}
   + \underbrace{\mathcal L[q^*] - \mathcal L[q]}_\text{amortisation} \]
q* is the best member, for one example, of the family that the encoder chooses q from. Reference: Cremer et al. 2018,
"Inference Suboptimality in Variational Autoencoders".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import BatchT, LatentModel
from latent.distributions import free_parameters, take, with_parameters
from latent.measures.annealing import anneal, anneal_back
from latent.measures.ascent import NOT_FREE, climb
from latent.measures.split import evaluating

DRAWS = 32  # of the bound in a step of the optimisation
WINDOW = 50  # steps, whose mean bound is compared with the best one before
PATIENCE = 3  # windows without a gain, after which an example's optimisation ends
RATES = (0.03, 0.003)  # of Adam, one after the other
AT_ONCE = 250  # draws of the bound at a time


@dataclass(frozen=True, kw_only=True)
class GapSettings:
    """How much is spent: K draws of each bound, so many steps towards q* at each rate, C chains of T temperatures."""

    num_samples: int = 5000
    max_steps: int = 3000
    num_chains: int = 16
    num_temperatures: int = 500
    seed: int = 0


@dataclass(frozen=True)
class Gaps:
    """Of each of N examples, in nats; `acceptance` is a share, and `simulated_…` are of N other, simulated examples.

    `weighted` is the importance-weighted bound, with q or with q*, `annealed` that of annealed importance sampling. The
    simulated ones sandwich log p(x) of examples drawn from the model itself.
    """

    amortised: Float[Tensor, " N"]
    optimal: Float[Tensor, " N"]
    weighted: Float[Tensor, " N"]
    annealed: Float[Tensor, " N"]
    acceptance: Float[Tensor, " N"]
    simulated_lower: Float[Tensor, " N"]
    simulated_upper: Float[Tensor, " N"]

    @property
    def log_marginal(self) -> Float[Tensor, " N"]:
        """The lower bound on log p(x) that is the tighter one over all examples together.

        The greater of two estimates of each example would be too high by their noise.
        """
        return self.annealed if self.annealed.mean() > self.weighted.mean() else self.weighted

    @property
    def approximation(self) -> Float[Tensor, " N"]:
        """log p(x) − L[q*]: what no encoder can mend."""
        return self.log_marginal - self.optimal

    @property
    def amortisation(self) -> Float[Tensor, " N"]:
        """L[q*] − L[q]: what a better encoder could gain."""
        return self.optimal - self.amortised

    def joined(self, other: "Gaps") -> "Gaps":
        """Those of both."""
        return Gaps(*(torch.cat([getattr(self, each.name), getattr(other, each.name)]) for each in fields(self)))


def inference_gaps(
    model: LatentModel[BatchT],
    batch: BatchT,
    settings: GapSettings,
    simulate: Callable[[Float[Tensor, "B Z"], BatchT], BatchT] | None = None,
) -> Gaps:
    """The gaps of a batch's examples, all of them side by side.

    `simulate` draws x ~ p(x|z) in the batch's form; without it the sandwich is not a number. Raises ValueError for a
    posterior that may not become any member of its family.
    """
    if not model.posterior_is_free:
        raise ValueError(f"gaps are to the best q of its family, and {type(model).__name__} has {NOT_FREE}")
    with evaluating(model, settings.seed):
        q = model.posterior(batch)
        best = optimal_posterior(model, batch, q, settings)
        amortised, weighted_q = _bounds(model, batch, q, settings.num_samples)
        optimal, weighted_best = _bounds(model, batch, best, settings.num_samples)
        chains = {"num_chains": settings.num_chains, "num_temperatures": settings.num_temperatures}
        annealed, _ = anneal(model, batch, **chains)
        lower = upper = torch.full_like(amortised, torch.nan)
        if simulate is not None:
            z = model.prior(batch).sample()
            simulated = simulate(z, batch)
            forward, steps = anneal(model, simulated, **chains)
            lower, upper = forward.log_marginal, anneal_back(model, simulated, z.unsqueeze(0), steps).log_marginal
        weighted = weighted_best if weighted_best.mean() > weighted_q.mean() else weighted_q
        found = (amortised, optimal, weighted, annealed.log_marginal, annealed.acceptance, lower, upper)
        return Gaps(*(each.cpu().double() for each in found))


def optimal_posterior(
    model: LatentModel[BatchT], batch: BatchT, q: Distribution, settings: GapSettings
) -> Distribution:
    """q*: of each example the better of two optima, one sought from q and one from the prior's place and size.

    With one start alone the optimum may be below L[q], and the amortisation gap negative.
    """
    own = free_parameters(q)
    starts = (own, tuple(torch.zeros_like(each) for each in own))
    found = [_ascend(model, batch, q, start, settings.max_steps) for start in starts]
    bounds = [_bounds(model, batch, with_parameters(q, each), settings.num_samples)[0] for each in found]
    is_second = bounds[1] > bounds[0]
    return with_parameters(q, tuple(_where(is_second, b, a) for a, b in zip(*found, strict=True)))


def _ascend(
    model: LatentModel[BatchT], batch: BatchT, q: Distribution, start: tuple[Tensor, ...], max_steps: int
) -> tuple[Tensor, ...]:
    """The parameters from which no window of steps gains on an example's bound; those that have come there wait."""
    best = tuple(each.detach().clone() for each in start)
    for rate in RATES:
        best = _ascend_at(model, batch, q, best, rate, max_steps)
    return best


def _ascend_at(
    model: LatentModel[BatchT], batch: BatchT, q: Distribution, start: tuple[Tensor, ...], rate: float, max_steps: int
) -> tuple[Tensor, ...]:
    rows = torch.arange(len(batch), device=start[0].device)
    best = list(start)
    best_bound, idle = torch.full_like(start[0][:, 0], -torch.inf), torch.zeros_like(start[0][:, 0])
    now, going, of_rows = [each.clone() for each in start], batch, q
    parameters = [each.requires_grad_() for each in now]
    optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=rate)
    for _ in range(max(1, max_steps // WINDOW)):
        bound = climb(model, going, of_rows, parameters, optimizer, num_steps=WINDOW, num_draws=DRAWS)
        is_gain = bound > best_bound[rows]
        best_bound[rows] = torch.where(is_gain, bound, best_bound[rows])
        idle[rows] = torch.where(is_gain, 0.0, idle[rows] + 1)
        for kept, each in zip(best, parameters, strict=True):
            kept[rows] = _where(is_gain, each.detach(), kept[rows])
        left = idle[rows] < PATIENCE
        if not left.any():
            break
        if not left.all():
            rows, going, of_rows = rows[left], going.take(left.nonzero()[:, 0]), take(of_rows, left.nonzero()[:, 0])
            parameters, optimizer = _fewer(parameters, optimizer, left, rate)
    return tuple(best)


def _fewer(
    parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer, left: Bool[Tensor, " B"], rate: float
) -> tuple[list[Tensor], torch.optim.Optimizer]:
    """The rows that are left of the parameters, and of their moments."""
    fewer = [each.detach()[left].requires_grad_() for each in parameters]
    made = torch.optim.Adam(fewer, lr=rate)
    for old, new in zip(parameters, fewer, strict=True):
        moments = optimizer.state[old]
        made.state[new] = {"step": moments["step"].clone()} | {
            name: moments[name][left] for name in ("exp_avg", "exp_avg_sq")
        }
    return fewer, made


def _bounds(
    model: LatentModel[BatchT], batch: BatchT, q: Distribution, num_samples: int
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """L[q] and the importance-weighted bound, from the same draws, some at a time."""
    sizes = [min(AT_ONCE, num_samples - done) for done in range(0, num_samples, AT_ONCE)]
    terms = [model.terms(q, batch, size) for size in sizes]
    elbo = sum(each.elbo * size for each, size in zip(terms, sizes, strict=True)) / num_samples
    log_weight = torch.cat([each.log_weight for each in terms])
    return torch.as_tensor(elbo), torch.logsumexp(log_weight, 0) - math.log(num_samples)


def _where(condition: Bool[Tensor, " B"], a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition.view(-1, *[1] * (a.dim() - 1)), a, b)
