"""KL(q || p): closed form where torch has a rule for the pair, Monte Carlo where it has none."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from latent.distributions.families import factors


@dataclass(frozen=True)
class Kl:
    """KL(q || p) of each example, in nats: summed over latent dimensions, never averaged.

    `per_dimension` is there when both q and p are products over dimensions. `closed_form` says how it was found.
    """

    total: Float[Tensor, " B"]
    per_dimension: Float[Tensor, "B Z"] | None
    closed_form: bool


def kl_divergence(q: Distribution, p: Distribution, log_ratio: Float[Tensor, "S B"]) -> Kl:
    """KL(q || p); `log_ratio` is log q(z) − log p(z) at draws of q, the Monte Carlo estimate where no rule is known."""
    q_factors, p_factors = factors(q), factors(p)
    try:
        if q_factors is not None and p_factors is not None:
            per_dimension = torch.distributions.kl_divergence(q_factors, p_factors)
            return Kl(per_dimension.sum(-1), per_dimension, closed_form=True)
        return Kl(torch.distributions.kl_divergence(q, p), None, closed_form=True)
    except NotImplementedError:  # torch's way to say that it knows no rule for this pair
        return Kl(log_ratio.mean(0), None, closed_form=False)
