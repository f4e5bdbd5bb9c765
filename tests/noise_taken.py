"""What is left of torch's random numbers after draws of a posterior."""

from typing import Any

import torch
from torch import Tensor

from latent.bound import LatentModel
from latent.measures import evaluating


def noise_after_draws(model: LatentModel[Any], batch: Any) -> tuple[Tensor, Tensor]:
    """The state of the random numbers after draws that are decoded, and after as many that are not."""
    left = []
    for is_decoded in (True, False):
        with evaluating(model, seed=0):
            q = model.posterior(batch)
            model.terms(q, batch, 3) if is_decoded else q.sample(torch.Size([3]))
            left.append(torch.get_rng_state())
    decoded, drawn = left
    return decoded, drawn
