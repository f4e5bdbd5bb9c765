r"""The likelihood by draws of the prior: \(\log p(y|x) \approx \log \frac1S \sum_s p(y|x, z_s),\; z_s \sim p(z|x)\)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import BatchT, ElboTerms, LatentModel
from latent.distributions import Kl, log_prob


class FromPrior(LatentModel[BatchT]):
    """A model whose proposal is its prior: every importance weight is p(y|x, z) itself, and no posterior is asked.

    What `importance_weighted` finds of it is the likelihood by Monte Carlo from the prior: a bound on that of the
    model, as with any proposal, and the looser the less the prior knows of y.
    """

    def __init__(self, model: LatentModel[BatchT]) -> None:
        super().__init__()
        self.model = model
        self.latent_size = model.latent_size
        self.training = model.training

    def posterior(self, batch: BatchT) -> Distribution:
        """The prior."""
        return self.prior(batch)

    def prior(self, batch: BatchT) -> Distribution:
        """The model's."""
        return self.model.prior(batch)

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: BatchT) -> Float[Tensor, "S B"]:
        """The model's."""
        return self.model.log_likelihood(z, batch)

    def terms(self, q: Distribution, batch: BatchT, num_samples: int = 1, *, path_gradient: bool = False) -> ElboTerms:
        """The terms at draws of q, the prior as it has been computed already: a KL of 0."""
        z = q.sample(torch.Size([num_samples]))
        density = log_prob(q, z)
        nothing = Kl(density.new_zeros(len(batch)), torch.zeros_like(z[0]), closed_form=True)
        return ElboTerms.of(z, self.log_likelihood(z, batch), density, density, nothing, q)
