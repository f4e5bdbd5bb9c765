"""What every objective gives back, and what one with feedback carries from step to step."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from latent.bound.terms import ElboTerms

Feedback = Mapping[str, Tensor | float]  # by name; empty at the first step
NO_FEEDBACK: Feedback = {}


@dataclass(frozen=True)
class Loss:
    """`value` goes down; `logged` holds unweighted figures of the batch, in nats per example, without gradient.

    `feedback` is what the objective wants to be given at its next step, on the device that it was computed on.
    """

    value: Float[Tensor, ""]
    logged: dict[str, Float[Tensor, ""] | float]
    feedback: Feedback = field(default_factory=dict)


def with_auxiliary(
    value: Float[Tensor, ""], auxiliary: Float[Tensor, "S B"] | None, weight: float
) -> Float[Tensor, ""]:
    """The value less weight · log p of what z predicts beside x, the mean over draws and examples, where it does."""
    return value if auxiliary is None else value - weight * auxiliary.mean()


def bound_figures(
    terms: ElboTerms, loss: Float[Tensor, ""], kl_weight: Float[Tensor, ""] | float
) -> dict[str, Tensor | float]:
    """What every objective logs: the bound and its two parts with nothing weighted, beside the loss and the weight.

    `auxiliary` is −log p of what z predicts beside x, where it does.
    """
    reconstruction, kl = -terms.log_likelihood.detach().mean(), terms.kl.detach().mean()
    auxiliary = {} if terms.auxiliary is None else {"auxiliary": -terms.auxiliary.detach().mean()}
    return {
        "loss": loss.detach(),
        "elbo": -(reconstruction + kl),
        "reconstruction": reconstruction,
        "kl": kl,
        "kl_weight": kl_weight,
        **auxiliary,
    }
