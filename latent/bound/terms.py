r"""The terms of the bound, per example and in nats.

\[ \log p(x) \ge \mathbb{E}_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z)) \]
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from latent.distributions import Kl


@dataclass(frozen=True)
class ElboTerms:
    """What a model says of a batch: S draws for each of B examples, in nats, summed over latent dimensions.

    Never averaged over examples and never weighted: that is the objective's work.
    """

    log_likelihood: Float[Tensor, "S B"]
    log_prior: Float[Tensor, "S B"]
    log_posterior: Float[Tensor, "S B"]
    kl: Float[Tensor, " B"]
    kl_per_dimension: Float[Tensor, "B Z"] | None
    kl_is_closed_form: bool
    z: Float[Tensor, "S B Z"]
    prior: Distribution | None = None  # batch shape B; None where no prior can be drawn from without the posterior
    posterior: Distribution | None = None  # batch shape B; None where there is none of z alone
    auxiliary: Float[Tensor, "S B"] | None = None  # log p of what z predicts beside x; no part of any bound
    log_likelihood_from_prior: Float[Tensor, "S B"] | None = None  # at draws of p, not of q; no part of any bound
    auxiliary_from_prior: Float[Tensor, "S B"] | None = None  # at the same draws

    @classmethod
    def of(
        cls,
        z: Float[Tensor, "S B Z"],
        log_likelihood: Float[Tensor, "S B"],
        log_prior: Float[Tensor, "S B"],
        log_posterior: Float[Tensor, "S B"],
        kl: Kl,
        prior: Distribution | None = None,
        posterior: Distribution | None = None,
        auxiliary: Float[Tensor, "S B"] | None = None,
    ) -> "ElboTerms":
        """Put the parts together."""
        figures = (log_likelihood, log_prior, log_posterior, kl.total, kl.per_dimension, kl.closed_form)
        return cls(*figures, z, prior, posterior, auxiliary)

    @property
    def log_weight(self) -> Float[Tensor, "S B"]:
        """log p(x|z) + log p(z) − log q(z|x): the log importance weight. The closed-form KL may not enter it."""
        return self.log_likelihood + self.log_prior - self.log_posterior

    @property
    def elbo(self) -> Float[Tensor, " B"]:
        """E_q[log p(x|z)] − KL(q || p), the mean over draws; it goes up."""
        return self.log_likelihood.mean(0) - self.kl

    def importance_weighted_bound(self, num_bounds: int = 1) -> Float[Tensor, " B"]:
        """log (1/k Σ_s w_s) ≤ log p(x) in expectation (Burda et al. 2016, equation 8).

        The mean of `num_bounds` such bounds, each of its own S / num_bounds = k draws.
        """
        log_weight = self.log_weight.unflatten(0, (num_bounds, -1))
        return (torch.logsumexp(log_weight, 1) - math.log(log_weight.shape[1])).mean(0)
