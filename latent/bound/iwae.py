"""`kind: iwae`: the importance-weighted bound, and its doubly reparameterised gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
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

    Of S `num_samples` and m `num_bounds` the mean of m bounds of k = S/m draws each is taken, MIWAE(m, k), and
    `elbo_weight` β mixes the plain bound in, CIWAE (Rainforth et al. 2018, "Tighter Variational Bounds are Not
    Necessarily Better", section 4):

    \[ \beta \, \tfrac1S \sum_s \log w_s + (1 - \beta) \, \tfrac1m \sum_b L_k^{(b)} . \]

    Both are to keep the encoder's gradient above its noise, which drowns it as k grows unless it is DReG's. The logged
    loss is the negative of this with either gradient.
    """

    kind: Literal["iwae"] = "iwae"
    num_samples: Annotated[int, Field(ge=1, le=10_000)]
    num_bounds: PositiveInt = 1
    elbo_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    gradient: Literal["standard", "dreg"] = "standard"
    from_prior: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_samples % self.num_bounds > 0:
            raise ValueError(f"num_samples must be a multiple of num_bounds, {self.num_bounds}; got {self.num_samples}")

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
        bound = terms.importance_weighted_bound(self.num_bounds).mean()
        if self.elbo_weight > 0:
            bound = torch.lerp(bound, terms.log_weight.mean(), self.elbo_weight)
        value = self._doubly_reparameterised(terms, bound) if self.path_gradient else -bound
        return Loss(value, bound_figures(terms, -bound, 1.0))

    def _doubly_reparameterised(self, terms: ElboTerms, bound: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """A surrogate with the loss's value: the decoder's gradient has each weight once, what goes through z twice.

        The plain bound's draws have equal weights, which count once in both.
        """
        each = terms.log_weight.detach().unflatten(0, (self.num_bounds, -1))
        weights = torch.softmax(each, 1).flatten(0, 1)
        equal, tight = self.elbo_weight / self.num_samples, (1 - self.elbo_weight) / self.num_bounds
        once, twice = equal + tight * weights, equal + tight * weights.square()
        if terms.z.requires_grad:
            share = twice / once.clamp(min=torch.finfo(once.dtype).tiny)
            terms.z.register_hook(lambda gradient: share.unsqueeze(-1) * gradient)
        surrogate = -(once * terms.log_weight).sum(0).mean()
        return surrogate + (-bound - surrogate).detach()
