"""Modules and functions that return distributions."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32 where it is narrower; likelihoods, KL and log-sum-exp are never narrower than that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def diagonal_normal(mean: Float[Tensor, "*B Z"], scale: Float[Tensor, "*B Z"]) -> Distribution:
    """A normal with independent dimensions: event shape Z.

    Arguments are not validated, since that would wait for the device in every step; a mean that is not finite shows
    in the loss, where the loop looks for it.
    """
    return Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)


def standard_normal(batch_size: int, latent_size: int, like: Tensor) -> Distribution:
    """N(0, I) with batch shape `batch_size` and event shape `latent_size`, in the type and on the device of `like`."""
    zeros = like.new_zeros(batch_size, latent_size)
    return diagonal_normal(zeros, torch.ones_like(zeros))


class Head(nn.Module, ABC):
    """From features to q(z|x). It `is_free` where any member of its family can come out, with `free_parameters`."""

    is_free: ClassVar[bool] = True

    @abstractmethod
    def forward(self, features: Float[Tensor, "B H"]) -> Distribution:
        """Return q with batch shape B and event shape Z."""

    def nearest(self, z: Float[Tensor, "*N Z"]) -> Float[Tensor, "*N Z"]:
        """The point nearest to z that a draw of q can be: z itself, unless a head says otherwise."""
        return z


class NormalHead(Head):
    r"""Linear maps from features to a diagonal normal: \(\mu = W_\mu h + b_\mu,\; \ln\sigma^2 = W_s h + b_s\).

    Reference: Kingma & Welling 2014, "Auto-Encoding Variational Bayes", appendix C.2.
    """

    def __init__(self, num_features: int, latent_size: int) -> None:
        super().__init__()
        self.mean = nn.Linear(num_features, latent_size)
        self.log_variance = nn.Linear(num_features, latent_size)

    def forward(self, features: Float[Tensor, "B H"]) -> Distribution:
        """Return q with batch shape B and event shape Z."""
        log_variance = at_least_float32(self.log_variance(features))
        return diagonal_normal(at_least_float32(self.mean(features)), (0.5 * log_variance).exp())
