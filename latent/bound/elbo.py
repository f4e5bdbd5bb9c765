"""`kind: elbo`: the bound with a KL weight, free bits, a controller of the weight and a penalty on q_agg."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from latent.bound.controllers import Controller
from latent.bound.information import Information
from latent.bound.loss import NO_FEEDBACK, Feedback, Loss, bound_figures, with_auxiliary
from latent.bound.mmd import Mmd
from latent.bound.schedules import Constant, Schedule
from latent.bound.terms import ElboTerms

FreeBitsOn = Literal["dimension", "total", "example", "dimension_of_example"]


@dataclass(frozen=True, kw_only=True)
class ElboObjective:
    r"""The negative ELBO with a KL weight and free bits:

    \[ -\frac1B \sum_i \log p(x_i|z_i) + \beta(t) \sum_j \max\big(\lambda, \tfrac1B \sum_i \mathrm{KL}_{ij}\big) \]

    `free_bits` is λ in nats; below it what `free_bits_on` names has no gradient. Zero is the plain bound. The mean of
    the batch is taken before the maximum or after it, which are not the same, as the maximum is convex:

    - `dimension`: Σ_j max(λ, mean_i KL_ij) (Kingma et al. 2016, equation 15), the default;
    - `total`: max(λ, mean_i KL_i), the KL of the whole batch;
    - `example`: mean_i max(λ, KL_i), each example by itself;
    - `dimension_of_example`: mean_i Σ_j max(λ, KL_ij) (Li et al. 2019, "A Surprisingly Effective Fix").

    `controller` multiplies the schedule's weight by a factor that follows the KL. `mmd` adds its weighted penalty: with
    `kl_weight` 1 − α and `mmd.weight` α + λ − 1 this is InfoVAE (Zhao et al. 2017), with `kl_weight` 0
    MMD-VAE and WAE-MMD (Tolstikhin et al. 2018). `information` rewards the mutual information within the batch.

    `auxiliary_weight` is that of what the model's z predicts beside x, such as the bag of its words; it counts where a
    model has it.
    """

    kind: Literal["elbo"] = "elbo"
    kl_weight: Schedule = field(default_factory=Constant)
    controller: Controller | None = None
    free_bits: NonNegativeFloat = 0.0
    free_bits_on: FreeBitsOn = "dimension"
    mmd: Mmd | None = None
    information: Information | None = None
    auxiliary_weight: NonNegativeFloat = 1.0
    num_samples: PositiveInt = 1  # draws of z for each example
    path_gradient: ClassVar[bool] = False
    from_prior: ClassVar[bool] = False

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """What changes with the step, by its key."""
        return {"kl_weight": self.kl_weight}

    def __call__(self, terms: ElboTerms, step: int, feedback: Feedback = NO_FEEDBACK) -> Loss:
        """Return the loss of a batch at a step.

        Raises ValueError for free bits on a KL that has no dimensions, for an MMD to a prior without draws and for the
        information of a z without a posterior.
        """
        weight, following = self._weight(terms, step, feedback)
        value = -terms.log_likelihood.mean() + weight * self._penalty(terms)
        value = with_auxiliary(value, terms.auxiliary, self.auxiliary_weight)
        logged: dict[str, Tensor | float] = {}
        if self.mmd is not None:
            discrepancy = self.mmd(terms)
            value, logged["mmd"] = value + self.mmd.weight * discrepancy, discrepancy.detach()
        if self.information is not None:
            information = self.information(terms)
            value, logged["information"] = value - self.information.weight * information, information.detach()
        return Loss(value, {**bound_figures(terms, value, weight), **logged}, following)

    def check(self, *, has_kl_per_dimension: bool) -> None:
        """Raise ValueError for free bits on a KL that has no dimensions."""
        of_dimensions = self.free_bits > 0 and self.free_bits_on in ("dimension", "dimension_of_example")
        if of_dimensions and not has_kl_per_dimension:
            raise ValueError(
                "objective.free_bits: this posterior or prior has no KL per dimension; set objective.free_bits=0 or "
                "objective.free_bits_on=total or example"
            )

    def _weight(self, terms: ElboTerms, step: int, feedback: Feedback) -> tuple[Tensor | float, Feedback]:
        weight = self.kl_weight(step)
        if self.controller is None:
            return weight, NO_FEEDBACK
        factor, following = self.controller(terms.kl.detach().mean(), feedback)
        return weight * factor, following

    def _penalty(self, terms: ElboTerms) -> Float[Tensor, ""]:
        if self.free_bits == 0.0:
            return terms.kl.mean()
        if self.free_bits_on == "total":
            return torch.clamp(terms.kl.mean(), min=self.free_bits)
        if self.free_bits_on == "example":
            return torch.clamp(terms.kl, min=self.free_bits).mean()
        self.check(has_kl_per_dimension=terms.kl_per_dimension is not None)
        assert terms.kl_per_dimension is not None
        if self.free_bits_on == "dimension":
            return torch.clamp(terms.kl_per_dimension.mean(0), min=self.free_bits).sum()
        return torch.clamp(terms.kl_per_dimension, min=self.free_bits).sum(-1).mean()
