"""Draws together with their density."""

from functools import singledispatch

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from latent.distributions.families import detach, log_prob
from latent.distributions.flows import FlowDistribution
from latent.distributions.hierarchy import Hierarchy


def rsample_and_log_prob(
    q: Distribution, num_samples: int, *, path_gradient: bool = False
) -> tuple[Float[Tensor, "S B Z"], Float[Tensor, "S B"]]:
    """Draw z ~ q with gradients and give log q(z), in nats.

    With `path_gradient` the density's gradient goes through z alone, its parameters held fixed (Roeder et al. 2017,
    "Sticking the Landing").

    One function for every family: a flow's draws come with their density, and nothing is inverted; only the density
    with `path_gradient`, as a function of z, is that of a z that might be any.
    """
    if path_gradient:
        z = q.rsample((num_samples,))
        return z, log_prob(detach(q), z)
    return _drawn(q, num_samples)


@singledispatch
def _drawn(q: Distribution, num_samples: int) -> tuple[Float[Tensor, "S B Z"], Float[Tensor, "S B"]]:
    z = q.rsample((num_samples,))
    return z, log_prob(q, z)


@_drawn.register(FlowDistribution)
@_drawn.register(Hierarchy)
def _(q: FlowDistribution | Hierarchy, num_samples: int) -> tuple[Float[Tensor, "S B Z"], Float[Tensor, "S B"]]:
    return q.rsample_and_log_prob(torch.Size([num_samples]))
