"""`kind: target_rate`: the KL is pulled to a target from both sides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveInt

from latent.bound.loss import NO_FEEDBACK, Feedback, Loss, bound_figures, with_auxiliary
from latent.bound.schedules import Constant, Schedule
from latent.bound.terms import ElboTerms


@dataclass(frozen=True, kw_only=True)
class TargetRateObjective:
    r"""The reconstruction and the distance of the batch's mean KL from a target:

    \[ -\frac1B \sum_i \log p(x_i|z_i) + \gamma(t) \, \big| \tfrac1B \sum_i \mathrm{KL}_i - C(t) \big| \]

    `kl_weight` is γ, `target` C in nats per example: below it the KL has the weight −γ, above it +γ. At C = 0 it is the
    bound with the weight γ. With γ = 1 nothing holds the KL down to C: above it the loss is the plain bound and C.

    Reference: Burgess et al. 2018, "Understanding disentangling in β-VAE"; on text, with γ = 1, Prokhorov
    et al. 2019, "On the Importance of the Kullback-Leibler Divergence Term in Variational Autoencoders for Text
    Generation".
    """

    kind: Literal["target_rate"] = "target_rate"
    target: Schedule
    kl_weight: Schedule = field(default_factory=Constant)
    auxiliary_weight: NonNegativeFloat = 1.0  # of what the model's z predicts beside x, where it does
    num_samples: PositiveInt = 1  # draws of z for each example
    path_gradient: ClassVar[bool] = False
    from_prior: ClassVar[bool] = False

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """What changes with the step, by its key."""
        return {"kl_weight": self.kl_weight, "target": self.target}

    def __call__(self, terms: ElboTerms, step: int, feedback: Feedback = NO_FEEDBACK) -> Loss:
        """Return the loss of a batch at a step."""
        weight = self.kl_weight(step)
        value = -terms.log_likelihood.mean() + weight * (terms.kl.mean() - self.target(step)).abs()
        value = with_auxiliary(value, terms.auxiliary, self.auxiliary_weight)
        return Loss(value, bound_figures(terms, value, weight))
