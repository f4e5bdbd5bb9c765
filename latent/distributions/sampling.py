"""Draws together with their density."""

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from latent.distributions.families import detach, log_prob


def rsample_and_log_prob(
    q: Distribution, num_samples: int, *, path_gradient: bool = False
) -> tuple[Float[Tensor, "S B Z"], Float[Tensor, "S B"]]:
    """Draw z ~ q with gradients and give log q(z), in nats.

    With `path_gradient` the density's gradient goes through z alone, its parameters held fixed (Roeder et al. 2017,
    "Sticking the Landing").

    One function for every family, so that a posterior which cannot be inverted is never asked for the density of a z
    that it did not draw.
    """
    z = q.rsample((num_samples,))
    return z, log_prob(detach(q) if path_gradient else q, z)
