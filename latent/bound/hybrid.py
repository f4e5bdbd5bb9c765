"""`kind: hybrid`: the bound beside the likelihood at draws of the prior, which is what a prediction is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from latent.bound.loss import NO_FEEDBACK, Feedback, Loss, bound_figures, with_auxiliary
from latent.bound.schedules import Constant, Schedule
from latent.bound.terms import ElboTerms


@dataclass(frozen=True, kw_only=True)
class HybridObjective:
    r"""A share α of the negative bound, and the rest of the negative log-likelihood at draws of the prior:

    \[ -\alpha \big( \mathbb{E}_q[\log p(y|x,z)] - \beta(t) \, \mathrm{KL}(q(z|x,y) \| p(z|x)) \big)
       - (1 - \alpha) \, \mathbb{E}_{p(z|x)}[\log p(y|x,z)] \]

    for an output y and what is given of it, x. α = 1 is the CVAE, α = 0 the Gaussian stochastic neural network (GSNN),
    which has no use for q. With β = 1, the paper's, both terms bound log p(y|x) from below, so that their sum does;
    `kl_weight` may lead up to it. `auxiliary_weight` is that of what a model's z predicts beside y, where it does: at
    draws of q with the share α, at those of the prior with 1 − α.

    Reference: Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models",
    equations 5 to 7.
    """

    kind: Literal["hybrid"] = "hybrid"
    bound_share: Annotated[float, Field(ge=0, le=1)] = 0.5  # α
    kl_weight: Schedule = field(default_factory=Constant)  # β
    auxiliary_weight: NonNegativeFloat = 1.0
    num_samples: PositiveInt = 1  # draws of z for each example, of q and of p alike
    path_gradient: ClassVar[bool] = False

    @property
    def from_prior(self) -> bool:
        """Whether draws of the prior are wanted."""
        return self.bound_share < 1

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """What changes with the step, by its key; the share does not."""
        return {"kl_weight": self.kl_weight}

    def __call__(self, terms: ElboTerms, step: int, feedback: Feedback = NO_FEEDBACK) -> Loss:
        """Return the loss of a batch at a step."""
        weight = self.kl_weight(step)
        value = -self.bound_share * (terms.log_likelihood.mean() - weight * terms.kl.mean())
        value = with_auxiliary(value, terms.auxiliary, self.bound_share * self.auxiliary_weight)
        if not self.from_prior:
            return Loss(value, bound_figures(terms, value, weight))
        assert terms.log_likelihood_from_prior is not None
        from_prior = terms.log_likelihood_from_prior.mean()
        value = value - (1 - self.bound_share) * from_prior
        value = with_auxiliary(value, terms.auxiliary_from_prior, (1 - self.bound_share) * self.auxiliary_weight)
        return Loss(value, {**bound_figures(terms, value, weight), "reconstruction_from_prior": -from_prior.detach()})
