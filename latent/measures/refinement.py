r"""Refined posteriors: steps of stochastic variational inference on each example's own q, from the encoder's on.

\[ q^{(N)}(z) = q_{\lambda_N}(z), \quad \lambda_0 \text{ the encoder's, or the prior's place and size} \]
References: Hoffman et al. 2013, "Stochastic Variational Inference"; Kim et al. 2018, "Semi-Amortized Variational
Autoencoders", section 3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution
from torch.optim import Optimizer

from latent.bound import BatchT, ElboTerms, LatentModel
from latent.distributions import concatenate, factors, free_parameters, take, with_parameters
from latent.measures.ascent import NOT_FREE, NaturalGradient, climb
from latent.measures.importance import ImportanceWeighted
from latent.measures.intervals import Estimate, mean_estimate
from latent.measures.split import SplitTerms, evaluating, restore_order

Start = Literal["posterior", "prior"]
By = Literal["adam", "natural"]
OPTIMIZERS: Mapping[By, tuple[str, Callable[..., Optimizer]]] = {
    "adam": ("Adam", torch.optim.Adam),
    "natural": ("natural gradients", NaturalGradient),
}
LEARNING_RATES: Mapping[By, Mapping[Start, float]] = {  # at first; in a straight line to 0
    "adam": {"posterior": 0.03, "prior": 0.3},
    "natural": {"posterior": 0.3, "prior": 0.3},
}
NUM_DRAWS = 8  # of the bound in a step


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """So many steps, from the encoder's q or from N(0, I), with no encoder at all. Raises ValueError for none."""

    steps: int
    start: Start = "posterior"
    by: By = "adam"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"--refine: a refinement takes a step at least (got {self.steps})")

    @classmethod
    def asked(cls, steps: int | None, start: Start | None, by: By | None) -> "Refinement | None":
        """What the options ask for, if anything. Raises ValueError for a start or a way without steps."""
        if steps is not None:
            return cls(steps=steps, start=start or cls.start, by=by or cls.by)
        for option, value in (("--refine-from", start), ("--refine-by", by)):
            if value is not None:
                raise ValueError(f"{option} {value}: how many steps? Give --refine N too")
        return None

    @property
    def learning_rate(self) -> float:
        """Of the first step."""
        return LEARNING_RATES[self.by][self.start]


@dataclass(frozen=True, kw_only=True)
class RefinedFigures:
    """What the bound of a split becomes with refined posteriors, in nats per example, and by which steps.

    The importance weights have the refined q as their proposal. A gain is paired over the examples: refined less
    amortised for the bound, amortised less refined for the NLL. It can be negative, as a step is one on noisy draws.
    """

    steps: int
    start: Start
    optimizer: str
    learning_rate: float
    num_draws: int
    elbo: Estimate
    elbo_gain: Estimate
    reconstruction: Estimate
    kl: Estimate
    nll: Estimate
    nll_gain: Estimate
    effective_sample_size: Estimate

    @classmethod
    def of(
        cls,
        refinement: Refinement,
        amortised: tuple[SplitTerms, ImportanceWeighted],
        refined: tuple[SplitTerms, ImportanceWeighted],
    ) -> "RefinedFigures":
        """Those of one split before and after."""
        (terms_before, weighted_before), (terms, weighted) = amortised, refined
        return cls(
            steps=refinement.steps,
            start=refinement.start,
            optimizer=OPTIMIZERS[refinement.by][0],
            learning_rate=refinement.learning_rate,
            num_draws=NUM_DRAWS,
            elbo=mean_estimate(terms.elbo),
            elbo_gain=mean_estimate(terms.elbo - terms_before.elbo),
            reconstruction=mean_estimate(terms.reconstruction),
            kl=mean_estimate(terms.kl),
            nll=weighted.estimate,
            nll_gain=mean_estimate(weighted_before.nll - weighted.nll),
            effective_sample_size=mean_estimate(weighted.effective_sample_size),
        )


class Refined(LatentModel[BatchT]):
    """A model whose posteriors of the N examples of a split are given, each found by itself, in its encoder's place.

    Prior and p(x|z) are the model's own, so that every measure of a model is one of it with these posteriors.
    """

    def __init__(self, model: LatentModel[BatchT], posteriors: Distribution) -> None:
        super().__init__()
        self.model, self.latent_size = model, model.latent_size
        self.posteriors = posteriors
        self.train(model.training)

    def posterior(self, batch: BatchT) -> Distribution:
        """Those of the batch's examples."""
        return take(self.posteriors, batch.indices)

    def prior(self, batch: BatchT) -> Distribution:
        """The model's."""
        return self.model.prior(batch)

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: BatchT) -> Float[Tensor, "S B"]:
        """The model's."""
        return self.model.log_likelihood(z, batch)

    def terms(self, q: Distribution, batch: BatchT, num_samples: int = 1, *, path_gradient: bool = False) -> ElboTerms:
        """The model's."""
        return self.model.terms(q, batch, num_samples, path_gradient=path_gradient)


def refine_posterior(model: LatentModel[BatchT], batch: BatchT, refinement: Refinement) -> Distribution:
    """Of each example of a batch q after the steps, each on the example's own bound by a few draws.

    Random numbers are torch's. Raises ValueError for a family whose parameters cannot be freed, and for natural
    gradients of another than diagonal normals.
    """
    q = model.posterior(batch)
    if refinement.by == "natural" and factors(q) is None:
        raise ValueError(f"--refine-by natural: q must be a diagonal normal, and is a {type(q).__name__}; take adam")
    own = free_parameters(q)
    start = own if refinement.start == "posterior" else tuple(torch.zeros_like(each) for each in own)
    parameters = [each.detach().clone().requires_grad_() for each in start]
    _, optimizer_of = OPTIMIZERS[refinement.by]
    optimizer = optimizer_of(parameters, lr=refinement.learning_rate)
    for step in range(refinement.steps):
        optimizer.param_groups[0]["lr"] = refinement.learning_rate * (1 - step / refinement.steps)
        climb(model, batch, q, parameters, optimizer, num_steps=1, num_draws=NUM_DRAWS)
    return with_parameters(q, tuple(each.detach() for each in parameters))


def check_refinement(refinement: Refinement | None, *, has_bound: bool) -> None:
    """Raise ValueError for a refinement of a posterior by a bound where the loss was none."""
    if refinement is not None and not has_bound:
        raise ValueError("--refine: this model's loss is no likelihood, and it has no bound; leave --refine out")


def refine_split(
    model: LatentModel[BatchT],
    batches: Sequence[BatchT],
    device: torch.device,
    refinement: Refinement,
    seed: int = 0,
) -> Refined[BatchT]:
    """The model with the posteriors of a split refined; the batches hold each of its examples once.

    The noise is a function of `seed`, and another than that of the measures of that seed: a posterior that had been
    fitted to the very draws by which it is measured would look better than it is. Raises ValueError for a model whose
    posterior is not free to be refined.
    """
    if model.latent_size == 0 or not model.posterior_is_free:
        reason = NOT_FREE if model.latent_size > 0 else "no z, and so no posterior"
        raise ValueError(f"--refine: {type(model).__name__} has {reason}; leave --refine out")
    own_seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed)))
    with evaluating(model, own_seed):
        found = [refine_posterior(model, batch.to(device), refinement) for batch in batches]
    return Refined(model, take(concatenate(*found), restore_order(batches).to(device)))
