"""Steps upwards on the bound of each example by itself, by its own posterior's parameters: all of a batch at once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import BatchT, LatentModel
from latent.distributions import with_parameters

NOT_FREE = "a posterior that an example's own parameters are not all of, or that is held to a rule of its head"


def climb(
    model: LatentModel[BatchT],
    batch: BatchT,
    q: Distribution,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    num_steps: int,
    num_draws: int,
) -> Float[Tensor, " B"]:
    """Take the steps, and return the mean bound of them, in nats.

    `parameters` are the leaves that the optimizer moves: `free_parameters` of members of q's family. An example's
    gradient is of its own bound alone. Nothing else gets a gradient.
    """
    total = parameters[0].new_zeros(len(batch))
    for _ in range(num_steps):
        with torch.enable_grad():
            terms = model.terms(with_parameters(q, tuple(parameters)), batch, num_draws)
            gradients = torch.autograd.grad(-terms.elbo.sum(), list(parameters))
        for each, gradient in zip(parameters, gradients, strict=True):
            each.grad = gradient
        optimizer.step()
        total += terms.elbo.detach()
    return total / num_steps
