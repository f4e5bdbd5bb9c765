"""`kind: iwae`: the importance-weighted bound, and its doubly reparameterised gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from latent.bound.loss import NO_FEEDBACK, Feedback, Loss, bound_figures
from latent.bound.schedules import Schedule
from latent.bound.terms import ElboTerms


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
    from_prior: ClassVar[bool] = False

    @property
    def path_gradient(self) -> bool:
        """Whether log q(z|x) is to have a gradient through z alone."""
        return self.gradient == "dreg"

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """None: the bound has the prior in its weights, in full at every step."""
        return {}

    def __call__(self, terms: ElboTerms, step: int, feedback: Feedback = NO_FEEDBACK) -> Loss:
        """Return the loss of a batch. Raises ValueError where z predicts something beside x: it has no weight here."""
        if terms.auxiliary is not None:
            raise ValueError("objective.kind: iwae has no auxiliary_weight; set objective.kind=elbo")
        bound = terms.importance_weighted_bound.mean()
        value = self._doubly_reparameterised(terms, bound) if self.path_gradient else -bound
        return Loss(value, bound_figures(terms, -bound, 1.0))

    def _doubly_reparameterised(self, terms: ElboTerms, bound: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """A surrogate with the value −L_k: the decoder's gradient has each weight once, what goes through z twice."""
        weights = torch.softmax(terms.log_weight, 0).detach()
        if terms.z.requires_grad:
            terms.z.register_hook(lambda gradient: weights.unsqueeze(-1) * gradient)
        surrogate = -(weights * terms.log_weight).sum(0).mean()
        return surrogate + (-bound - surrogate).detach()
