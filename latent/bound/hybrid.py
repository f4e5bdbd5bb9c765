"""`kind: hybrid`: the bound beside the likelihood at draws of the prior, which is what a prediction is made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from latent.bound.loss import NO_FEEDBACK, Feedback, Loss, bound_figures
from latent.bound.schedules import Schedule
from latent.bound.terms import ElboTerms


@dataclass(frozen=True, kw_only=True)
class HybridObjective:
    r"""A share α of the negative bound, and the rest of the negative log-likelihood at draws of the prior:

    \[ -\alpha \big( \mathbb{E}_q[\log p(y|x,z)] - \mathrm{KL}(q(z|x,y) \| p(z|x)) \big)
       - (1 - \alpha) \, \mathbb{E}_{p(z|x)}[\log p(y|x,z)] \]

    for an output y and what is given of it, x. α = 1 is the CVAE, α = 0 the Gaussian stochastic neural network (GSNN),
    which has no use for q. Both terms bound log p(y|x) from below, so that their sum does. No weight on the KL: the
    paper found none that helped.

    Reference: Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models",
    equations 5 to 7.
    """

    kind: Literal["hybrid"] = "hybrid"
    bound_share: Annotated[float, Field(ge=0, le=1)] = 0.5  # α
    num_samples: PositiveInt = 1  # draws of z for each example, of q and of p alike
    path_gradient: ClassVar[bool] = False

    @property
    def from_prior(self) -> bool:
        """Whether draws of the prior are wanted."""
        return self.bound_share < 1

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """None: the share is the same at every step."""
        return {}

    def __call__(self, terms: ElboTerms, step: int, feedback: Feedback = NO_FEEDBACK) -> Loss:
        """Return the loss of a batch. Raises ValueError where z predicts something beside x: it has no weight here."""
        if terms.auxiliary is not None:
            raise ValueError("objective.kind: hybrid has no auxiliary_weight; set objective.kind=elbo")
        value = -self.bound_share * (terms.log_likelihood.mean() - terms.kl.mean())
        if not self.from_prior:
            return Loss(value, bound_figures(terms, value, 1.0))
        assert terms.log_likelihood_from_prior is not None
        from_prior = terms.log_likelihood_from_prior.mean()
        value = value - (1 - self.bound_share) * from_prior
        return Loss(value, {**bound_figures(terms, value, 1.0), "reconstruction_from_prior": -from_prior.detach()})
