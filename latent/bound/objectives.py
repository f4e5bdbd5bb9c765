"""Objectives: the only place where a weight, free bits or the mean over the batch appears. They never see the model."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from latent.bound.schedules import Constant, Schedule
from latent.bound.terms import ElboTerms


@dataclass(frozen=True)
class Loss:
    """`value` goes down; `logged` holds unweighted figures of the batch, in nats per example, without gradient."""

    value: Float[Tensor, ""]
    logged: dict[str, Float[Tensor, ""] | float]


@dataclass(frozen=True, kw_only=True)
class ElboObjective:
    r"""The negative ELBO with a KL weight and free bits:

    \[ -\frac1B \sum_i \log p(x_i|z_i) + \beta(t) \sum_j \max\big(\lambda, \tfrac1B \sum_i \mathrm{KL}_{ij}\big) \]

    `free_bits` is λ in nats per latent dimension, on the mean of the batch (Kingma et al. 2016, equation 15): below it
    a dimension's KL has no gradient. Zero is the plain bound.
    """

    kind: Literal["elbo"] = "elbo"
    kl_weight: Schedule = field(default_factory=Constant)
    free_bits: NonNegativeFloat = 0.0
    num_samples: PositiveInt = 1  # draws of z for each example
    path_gradient: ClassVar[bool] = False

    def __call__(self, terms: ElboTerms, step: int) -> Loss:
        """Return the loss of a batch at a step. Raises ValueError for free bits on a KL that has no dimensions."""
        reconstruction = -terms.log_likelihood.mean()
        kl = terms.kl.mean()
        weight = self.kl_weight(step)
        value = reconstruction + weight * self._penalty(terms)
        logged: dict[str, Tensor | float] = {
            "loss": value.detach(),
            "elbo": -(reconstruction + kl).detach(),
            "reconstruction": reconstruction.detach(),
            "kl": kl.detach(),
            "kl_weight": weight,
        }
        return Loss(value, logged)

    def _penalty(self, terms: ElboTerms) -> Float[Tensor, ""]:
        if self.free_bits == 0.0:
            return terms.kl.mean()
        if terms.kl_per_dimension is None:
            raise ValueError(
                "objective.free_bits: this posterior or prior has no KL per dimension; set objective.free_bits=0"
            )
        return torch.clamp(terms.kl_per_dimension.mean(0), min=self.free_bits).sum()


@dataclass(frozen=True, kw_only=True)
class IwaeObjective:
    r"""The negative importance-weighted bound of k draws, \(-L_k = -\log \tfrac1k \sum_s w_s\), in the batch's mean.

    Reference: Burda et al. 2016, "Importance Weighted Autoencoders", equation 8. Its gradient is
    \(-\sum_s \tilde w_s \nabla \log w_s\), the normalised weights \(\tilde w_s\) held fixed. `gradient: dreg` is the
    doubly reparameterised one (Tucker et al. 2019, equation 8) for the posterior's parameters,
    \(-\sum_s \tilde w_s^2 \, \partial_{z_s} \log w_s \, \nabla_\phi z_s\): the same in expectation, less noisy.
    The logged loss is −L_k with either.
    """

    kind: Literal["iwae"] = "iwae"
    num_samples: Annotated[int, Field(ge=1, le=10_000)]
    gradient: Literal["standard", "dreg"] = "standard"

    @property
    def path_gradient(self) -> bool:
        """Whether log q(z|x) is to have a gradient through z alone."""
        return self.gradient == "dreg"

    @property
    def kl_weight(self) -> Schedule:
        """The bound has the prior in its weights, in full at every step."""
        return Constant()

    def __call__(self, terms: ElboTerms, step: int) -> Loss:
        """Return the loss of a batch."""
        bound = terms.importance_weighted_bound.mean()
        value = self._doubly_reparameterised(terms, bound) if self.path_gradient else -bound
        logged: dict[str, Tensor | float] = {
            "loss": -bound.detach(),
            "elbo": terms.elbo.mean().detach(),
            "reconstruction": -terms.log_likelihood.mean().detach(),
            "kl": terms.kl.mean().detach(),
            "kl_weight": 1.0,
        }
        return Loss(value, logged)

    def _doubly_reparameterised(self, terms: ElboTerms, bound: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """A surrogate with the value −L_k: the decoder's gradient has each weight once, what goes through z twice."""
        weights = torch.softmax(terms.log_weight, 0).detach()
        if terms.z.requires_grad:
            terms.z.register_hook(lambda gradient: weights.unsqueeze(-1) * gradient)
        surrogate = -(weights * terms.log_weight).sum(0).mean()
        return surrogate + (-bound - surrogate).detach()


Objective = Annotated[ElboObjective | IwaeObjective, Field(discriminator="kind")]
