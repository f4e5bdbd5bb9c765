r"""Annealed importance sampling: log p(x) by a path of distributions from the prior to the posterior, and its check.

The path is \(f_t(z) \propto p(z)\, p(x|z)^{b_t}\), \(0 = b_0 < \dots < b_T = 1\), linear in t. References: Neal 2001,
"Annealed Importance Sampling"; Wu et al. 2017, "On the Quantitative Analysis of Decoder-Based Generative Models";
Grosse et al. 2015, "Sandwiching the marginal likelihood using bidirectional Monte Carlo".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent.bound import BatchT, LatentModel
from latent.distributions import log_prob

LEAPFROG_STEPS = 10
ACCEPTANCE = 0.65  # that the pilot's step sizes aim at
CHANGE = 1.02  # of a step size after a step on either side of it
FIRST_STEP = 0.3
LOWEST_ACCEPTANCE = 0.2  # mean over an example's chains and temperatures: below, the chains hardly move

Energy = Callable[[Float[Tensor, "C B Z"]], tuple[Float[Tensor, "C B"], Float[Tensor, "C B"]]]  # log p(z), log p(x|z)


@dataclass(frozen=True)
class Annealed:
    """Of each of B examples the estimate of log p(x), in nats, and the share of proposals that were accepted.

    Forward from the prior it is in expectation a lower bound, backward from an exact draw of p(z|x) an upper one.
    """

    log_marginal: Float[Tensor, " B"]
    acceptance: Float[Tensor, " B"]

    @property
    def has_collapsed(self) -> Bool[Tensor, " B"]:
        """Where so few proposals were accepted that the estimate is that of the prior alone."""
        return self.acceptance < LOWEST_ACCEPTANCE


def anneal(
    model: LatentModel[BatchT], batch: BatchT, *, num_chains: int, num_temperatures: int
) -> tuple[Annealed, Float[Tensor, "T B"]]:
    """log p(x) from below, C chains for each example side by side; and the step sizes, found by a pilot run before it.

    Adapting them in the measured run would make its transitions depend on their own past, and the bound none. Random
    numbers are torch's. Raises ValueError for fewer than one chain or temperature.
    """
    if num_chains < 1 or num_temperatures < 1:
        raise ValueError(f"annealing needs a chain and a temperature at least (got {num_chains}, {num_temperatures})")
    energy = _energy(model, batch)

    def start() -> Float[Tensor, "C B Z"]:
        return model.prior(batch).sample(torch.Size([num_chains]))

    steps = _pilot(energy, start(), num_temperatures)
    return _forward(energy, start(), steps), steps


def anneal_back(
    model: LatentModel[BatchT], batch: BatchT, z: Float[Tensor, "C B Z"], steps: Float[Tensor, "T B"]
) -> Annealed:
    """log p(x) from above, from exact draws z of p(z|x): of x that were simulated, x ~ p(x|z), z is one."""
    energy = _energy(model, batch)
    b = _temperatures(len(steps), z)
    log_weight, accepted = z.new_zeros(z.shape[:2]), z.new_zeros(z.shape[:2])
    for t in range(len(steps), 0, -1):
        z, moved = _transition(energy, z, b[t], steps[t - 1])
        log_weight += (b[t] - b[t - 1]) * energy(z)[1].detach()
        accepted += moved
    return Annealed(-_log_mean_exp(-log_weight), accepted.mean(0) / len(steps))


def _energy(model: LatentModel[BatchT], batch: BatchT) -> Energy:
    p = model.prior(batch)

    def found(z: Float[Tensor, "C B Z"]) -> tuple[Float[Tensor, "C B"], Float[Tensor, "C B"]]:
        return log_prob(p, z), model.log_likelihood(z, batch)

    return found


def _temperatures(number: int, like: Tensor) -> Float[Tensor, " P"]:
    return torch.linspace(0.0, 1.0, number + 1, dtype=like.dtype, device=like.device)


def _forward(energy: Energy, z: Float[Tensor, "C B Z"], steps: Float[Tensor, "T B"]) -> Annealed:
    b = _temperatures(len(steps), z)
    log_weight, accepted = z.new_zeros(z.shape[:2]), z.new_zeros(z.shape[:2])
    for t in range(1, len(steps) + 1):
        log_weight += (b[t] - b[t - 1]) * energy(z)[1].detach()
        z, moved = _transition(energy, z, b[t], steps[t - 1])
        accepted += moved
    return Annealed(_log_mean_exp(log_weight), accepted.mean(0) / len(steps))


def _pilot(energy: Energy, z: Float[Tensor, "C B Z"], num_temperatures: int) -> Float[Tensor, "T B"]:
    """A step size for every temperature and example, at which about 65 % of the proposals are accepted."""
    b = _temperatures(num_temperatures, z)
    size, found = z.new_full(z.shape[1:2], FIRST_STEP), []
    for t in range(1, num_temperatures + 1):
        z, moved = _transition(energy, z, b[t], size)
        size = torch.where(moved.mean(0) > ACCEPTANCE, size * CHANGE, size / CHANGE)
        found.append(size)
    return torch.stack(found)


def _transition(
    energy: Energy, z: Float[Tensor, "C B Z"], b: Float[Tensor, ""], size: Float[Tensor, " B"]
) -> tuple[Float[Tensor, "C B Z"], Float[Tensor, "C B"]]:
    """One step of Hamiltonian Monte Carlo that leaves p(z) p(x|z)^b as it is; and 1 where its proposal was taken."""

    def log_density(z: Float[Tensor, "C B Z"]) -> tuple[Float[Tensor, "C B"], Float[Tensor, "C B Z"]]:
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            log_prior, log_likelihood = energy(z)
            found = log_prior + b * log_likelihood
            (gradient,) = torch.autograd.grad(found.sum(), z)
        return found.detach(), gradient

    step = size[:, None]
    momentum = torch.randn_like(z)
    before, gradient = log_density(z)
    proposal, ahead = z, momentum + 0.5 * step * gradient
    for number in range(LEAPFROG_STEPS):
        proposal = proposal + step * ahead
        after, gradient = log_density(proposal)
        ahead = ahead + (0.5 if number == LEAPFROG_STEPS - 1 else 1.0) * step * gradient
    log_ratio = after - before + 0.5 * (momentum.square() - ahead.square()).sum(-1)
    moved = torch.rand_like(log_ratio).log() < log_ratio  # false for a proposal that is not a number
    return torch.where(moved.unsqueeze(-1), proposal, z), moved.to(z.dtype)


def _log_mean_exp(log_weight: Float[Tensor, "C B"]) -> Float[Tensor, " B"]:
    return torch.logsumexp(log_weight, 0) - math.log(len(log_weight))
