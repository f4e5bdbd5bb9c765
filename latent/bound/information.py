"""The mutual information of x and z within a batch, rewarded: the encoder is to tell its examples apart."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from latent.bound.terms import ElboTerms
from latent.distributions import pairwise_log_prob


@dataclass(frozen=True, kw_only=True)
class Information:
    r"""A reward of `weight` times the mutual information, estimated with the batch's posteriors for all of them:

    \[ \hat I = \frac1B \sum_i \Big[ \log q(z_i|x_i) - \log \frac1B \sum_j q(z_i|x_j) \Big] \le \log B \]

    (Hoffman & Johnson 2016, "ELBO Surgery"). Beside the bound it is the α I(x; z) of InfoVAE with λ = 1 (Zhao et al.
    2017, "InfoVAE: Balancing Learning and Inference in Variational Autoencoders", equation 5): of
    KL = I + KL(q_agg ‖ p) the information costs 1 − α, and nothing at α = 1. With S draws for each example it is the
    mean of S such figures.
    """

    weight: PositiveFloat  # α

    def __call__(self, terms: ElboTerms) -> Float[Tensor, ""]:
        """The estimate of a batch in nats per example, unweighted; 0 for a batch of one.

        Raises ValueError for a model whose z has no posterior of its own.
        """
        q = terms.posterior
        if q is None:
            raise ValueError(
                "objective.information: this model gives no posterior of z; set objective.information=null"
            )
        num_examples = terms.z.shape[1]
        of_each = [
            pairwise_log_prob(q, z).logsumexp(1) - math.log(max(1, num_examples))  # log q_agg at each draw
            for z in terms.z
        ]
        return (terms.log_posterior - torch.stack(of_each)).mean().to(terms.log_posterior.dtype)
