"""A latent-variable model: three parts, and the bound written once in terms of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.bound.schedules import Schedule
from latent.bound.terms import ElboTerms
from latent.distributions import kl_divergence, log_prob, rsample_and_log_prob

Same = TypeVar("Same", bound="Batch")


@runtime_checkable
class Batch(Protocol):
    """What the core knows of a batch: how many examples, which ones of the split, and how much it counts."""

    @property
    def indices(self) -> Int64[Tensor, " B"]:
        """Each example's place in its split."""

    @property
    def weight(self) -> float:
        """This batch's number of examples over the mean number, so that a mean over it counts each example equally."""

    def __len__(self) -> int: ...

    def to(self: Same, device: torch.device) -> Same:
        """The same batch on another device."""

    def take(self: Same, rows: Int64[Tensor, " M"]) -> Same:
        """The examples at the given rows, in their order."""


BatchT = TypeVar("BatchT", bound=Batch)


class LatentModel(nn.Module, ABC, Generic[BatchT]):
    """p(x, z) = p(z) p(x|z) with an approximate posterior q(z|x).

    A model gives `posterior`, `prior` and `log_likelihood`; one whose latents are not a single vector drawn before
    decoding overrides `terms`. Everything downstream sees only `ElboTerms`. A `latent_size` of 0 is a model without a
    latent variable: its bound is exact.
    """

    latent_size: int
    layers: Sequence[nn.Module] = ()  # most of the weights, in parts that are called one after the other: `train.shard`

    @abstractmethod
    def posterior(self, batch: BatchT) -> Distribution:
        """q(z|x): batch shape B, event shape Z."""

    @abstractmethod
    def prior(self, batch: BatchT) -> Distribution:
        """p(z), or p(z|context): batch shape B, event shape Z."""

    @abstractmethod
    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: BatchT) -> Float[Tensor, "S B"]:
        """log p(x|z) in nats, summed over the parts of each example."""

    def terms(self, q: Distribution, batch: BatchT, num_samples: int = 1, *, path_gradient: bool = False) -> ElboTerms:
        """The bound's terms for draws of q, which has been computed already: the encoder runs once per example.

        With `path_gradient`, log q(z|x) has a gradient through z alone and none through q's own parameters.
        """
        return self._terms(q, batch, num_samples, path_gradient, self.log_likelihoods)

    def latent_terms(
        self, q: Distribution, batch: BatchT, num_samples: int = 1, *, path_gradient: bool = False
    ) -> ElboTerms:
        """The same with 0 for log p(x|z): nothing is decoded, for whoever judges in another way what z becomes."""
        return self._terms(q, batch, num_samples, path_gradient, lambda z, batch: (z.new_zeros(z.shape[:2]), None))

    def _terms(
        self,
        q: Distribution,
        batch: BatchT,
        num_samples: int,
        path_gradient: bool,
        log_likelihoods: Callable[[Tensor, BatchT], tuple[Tensor, Tensor | None]],
    ) -> ElboTerms:
        z, log_posterior = rsample_and_log_prob(q, num_samples, path_gradient=path_gradient)
        p = self.prior(batch)
        log_prior = log_prob(p, z)
        kl = kl_divergence(q, p, log_posterior - log_prior)
        log_likelihood, auxiliary = log_likelihoods(z, batch)
        return ElboTerms.of(z, log_likelihood, log_prior, log_posterior, kl, p, q, auxiliary)

    def log_likelihoods(
        self, z: Float[Tensor, "S B Z"], batch: BatchT
    ) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"] | None]:
        """log p(x|z), and log p of what z predicts beside x, in nats: no part of the bound, or None."""
        return self.log_likelihood(z, batch), None

    @property
    def posterior_is_free(self) -> bool:
        """Whether q(z|x) of an example may become any member of its family: what refining its parameters asks for."""
        return True

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """What of the model changes with the step of training, by its key."""
        return {}

    def at_step(self, step: int) -> None:
        """Set what the model's schedules change to its value at this step; evaluation does not depend on it."""

    def encoder_parameters(self, batch: BatchT) -> list[nn.Parameter]:
        """φ: the parameters that a draw of q(z|x) depends on, found by its gradient, so that no model has to list them.

        What is left is the generative model's, a learned prior's parameters among them. A model whose latent variable
        has no dimensions has none.
        """
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        drawn = self.posterior(batch).rsample().sum()
        if not drawn.requires_grad:
            return []
        gradients = torch.autograd.grad(drawn, parameters, allow_unused=True)
        return [parameter for parameter, each in zip(parameters, gradients, strict=True) if each is not None]

    def validation_figures(self, q: Distribution) -> dict[str, float]:
        """What this model alone has to say of the N posteriors of a validation, beside the bound: logged with it."""
        return {}

    def forward(
        self, batch: BatchT, num_samples: int = 1, *, path_gradient: bool = False, from_prior: bool = False
    ) -> ElboTerms:
        """The terms of the bound: what `torch.compile` and data-parallel training wrap.

        With `from_prior` they have `log_likelihoods` at as many draws of the prior, with gradients, beside
        them. Raises ValueError where a draw of the prior has no gradient.
        """
        terms = self.terms(self.posterior(batch), batch, num_samples, path_gradient=path_gradient)
        if not from_prior:
            return terms
        if terms.prior is None or not terms.prior.has_rsample:
            raise ValueError(
                "objective.kind: hybrid needs draws of the prior that have a gradient, and this model's have none; "
                "set objective.kind=elbo"
            )
        z = terms.prior.rsample(torch.Size([num_samples]))
        log_likelihood, auxiliary = self.log_likelihoods(z, batch)
        return replace(terms, log_likelihood_from_prior=log_likelihood, auxiliary_from_prior=auxiliary)
