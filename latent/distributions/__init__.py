"""Distributions over the latent variable, their divergences and the heads that make them."""

from latent.distributions.batch_norm import BatchNormHead
from latent.distributions.divergences import Kl, kl_divergence
from latent.distributions.families import (
    Change,
    change_rows,
    concatenate,
    detach,
    device_of,
    factors,
    free_parameters,
    log_prob,
    pairwise_log_prob,
    pairwise_most,
    take,
    with_parameters,
)
from latent.distributions.flow_heads import FlowHeadConfig
from latent.distributions.flows import FlowDistribution
from latent.distributions.heads import Head, NormalHead, at_least_float32, diagonal_normal, standard_normal
from latent.distributions.hierarchy import Hierarchy
from latent.distributions.mixtures import NormalMixture, NormalMixturePrior, held_cluster_kl, mixture_kl_bound
from latent.distributions.posteriors import NormalHeadConfig, PosteriorConfig, prior_for
from latent.distributions.priors import (
    FlowPriorConfig,
    MixturePriorConfig,
    PriorConfig,
    SequenceReader,
    StandardNormalPriorConfig,
)
from latent.distributions.sampling import rsample_and_log_prob
from latent.distributions.von_mises_fisher import UniformSphere, VonMisesFisher

__all__ = [
    "BatchNormHead",
    "Change",
    "FlowDistribution",
    "FlowHeadConfig",
    "FlowPriorConfig",
    "Head",
    "Hierarchy",
    "Kl",
    "MixturePriorConfig",
    "NormalHead",
    "NormalHeadConfig",
    "NormalMixture",
    "NormalMixturePrior",
    "PosteriorConfig",
    "PriorConfig",
    "SequenceReader",
    "StandardNormalPriorConfig",
    "UniformSphere",
    "VonMisesFisher",
    "at_least_float32",
    "change_rows",
    "concatenate",
    "detach",
    "device_of",
    "diagonal_normal",
    "factors",
    "free_parameters",
    "held_cluster_kl",
    "kl_divergence",
    "log_prob",
    "mixture_kl_bound",
    "pairwise_log_prob",
    "pairwise_most",
    "prior_for",
    "rsample_and_log_prob",
    "standard_normal",
    "take",
    "with_parameters",
]
