"""Objectives: the only place where a weight, free bits or the mean over the batch appears. They never see the model."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat
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


Objective = ElboObjective
