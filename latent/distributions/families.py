"""What the measures need of a family beyond `torch.distributions`: join, pick rows, factorise, densities of all pairs.

A new family registers its own rule with `@concatenate.register` and so on; nothing asks for types anywhere else.
"""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal


@singledispatch
def concatenate(first: Distribution, *others: Distribution) -> Distribution:
    """Join distributions of one family along their batch dimension."""
    raise ValueError(f"no rule to join {type(first).__name__}: register one with latent.distributions.concatenate")


@concatenate.register
def _(first: Normal, *others: Normal) -> Distribution:
    parts = (first, *others)
    mean, scale = torch.cat([q.loc for q in parts]), torch.cat([q.scale for q in parts])
    return Normal(mean, scale, validate_args=False)


@concatenate.register(Independent)
def _(first: Independent[Any], *others: Independent[Any]) -> Distribution:
    base = concatenate(first.base_dist, *(q.base_dist for q in others))
    return Independent(base, first.reinterpreted_batch_ndims, validate_args=False)


Change = Callable[[Tensor], Tensor]


@singledispatch
def change_rows(q: Distribution, change: Change) -> Distribution:
    """What `change` makes of the rows of each parameter, one for each distribution of the batch."""
    raise ValueError(f"no rule to pick rows of {type(q).__name__}: register one with latent.distributions.change_rows")


@change_rows.register
def _(q: Normal, change: Change) -> Distribution:
    return Normal(change(q.loc), change(q.scale), validate_args=False)


@change_rows.register(Independent)
def _(q: Independent[Any], change: Change) -> Distribution:
    return Independent(change_rows(q.base_dist, change), q.reinterpreted_batch_ndims, validate_args=False)


def take(q: Distribution, rows: Int64[Tensor, " M"]) -> Distribution:
    """The distributions at the given rows of the batch dimension."""
    return change_rows(q, lambda parameter: parameter[rows])


@singledispatch
def detach(q: Distribution) -> Distribution:
    """The same distribution with parameters through which no gradient goes."""
    raise ValueError(f"no rule to hold {type(q).__name__} fixed: register one with latent.distributions.detach")


@detach.register
def _(q: Normal) -> Distribution:
    return Normal(q.loc.detach(), q.scale.detach(), validate_args=False)


@detach.register(Independent)
def _(q: Independent[Any]) -> Distribution:
    return Independent(detach(q.base_dist), q.reinterpreted_batch_ndims, validate_args=False)


@singledispatch
def free_parameters(q: Distribution) -> tuple[Tensor, ...]:
    """The parameters as tensors without bounds, which any step of an optimizer leaves valid."""
    raise ValueError(f"no rule to free {type(q).__name__}: register one with latent.distributions.free_parameters")


@free_parameters.register
def _(q: Normal) -> tuple[Tensor, ...]:
    return q.loc, q.scale.log()


@free_parameters.register(Independent)
def _(q: Independent[Any]) -> tuple[Tensor, ...]:
    return free_parameters(q.base_dist)


@singledispatch
def with_parameters(q: Distribution, parameters: tuple[Tensor, ...]) -> Distribution:
    """The member of q's family that has these `free_parameters`."""
    raise ValueError(f"no rule to free {type(q).__name__}: register one with latent.distributions.with_parameters")


@with_parameters.register
def _(q: Normal, parameters: tuple[Tensor, ...]) -> Distribution:
    loc, log_scale = parameters
    return Normal(loc, log_scale.exp(), validate_args=False)


@with_parameters.register(Independent)
def _(q: Independent[Any], parameters: tuple[Tensor, ...]) -> Distribution:
    base = with_parameters(q.base_dist, parameters)
    return Independent(base, q.reinterpreted_batch_ndims, validate_args=False)


@singledispatch
def device_of(q: Distribution) -> torch.device:
    """Where the parameters are. For a family whose mean is costly, register a rule."""
    return q.mean.device


@device_of.register(Independent)
def _(q: Independent[Any]) -> torch.device:
    return device_of(q.base_dist)


@singledispatch
def factors(q: Distribution) -> Distribution | None:
    """The distribution of each latent dimension on its own where q is a product of them, else None."""
    return None


@factors.register(Independent)
def _(q: Independent[Any]) -> Distribution | None:
    return q.base_dist if len(q.event_shape) == 1 else None


def log_prob(q: Distribution, z: Float[Tensor, "*S B Z"]) -> Float[Tensor, "*S B"]:
    """log q(z) in nats. Unlike `Independent.log_prob` it also takes a batch of none."""
    base = factors(q)
    return q.log_prob(z) if base is None else base.log_prob(z).sum(-1)


@singledispatch
def pairwise_log_prob(q: Distribution, z: Float[Tensor, "M Z"]) -> Float[Tensor, "M N"]:
    """log q_j(z_i) for every pair of a draw i and one of the N distributions j, in nats, float64."""
    return q.log_prob(z.unsqueeze(1)).double()  # broadcasts: M·N·Z numbers at once


@singledispatch
def pairwise_most(q: Distribution) -> int | None:
    """Of how many examples at most the densities of all pairs are to be asked for; None where any number will do."""
    return None


@pairwise_log_prob.register(Independent)
def _(q: Independent[Any], z: Float[Tensor, "M Z"]) -> Float[Tensor, "M N"]:
    return _pairwise_factorised(q.base_dist, z)


@singledispatch
def _pairwise_factorised(base: Distribution, z: Float[Tensor, "M Z"]) -> Float[Tensor, "M N"]:
    return base.log_prob(z.unsqueeze(1)).sum(-1).double()


@_pairwise_factorised.register
def _(base: Normal, z: Float[Tensor, "M Z"]) -> Float[Tensor, "M N"]:
    # (z - m)^2 / s^2 = z^2 s^-2 - 2 z m s^-2 + m^2 s^-2: two matrix products. The terms cancel, hence float64.
    mean, precision, z = base.loc.double(), base.scale.double().pow(-2), z.double()
    constant = 0.5 * (precision.log() - mean.square() * precision - math.log(2 * math.pi)).sum(-1)
    return torch.addmm(constant, z, (mean * precision).T).addmm(z.square(), precision.T, alpha=-0.5)
