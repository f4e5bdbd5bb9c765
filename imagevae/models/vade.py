"""VaDE: a VAE whose prior is a mixture with a component for each cluster (Jiang et al. 2017)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.cluster_starts import MixtureStart, Start
from imagevae.form import ImageForm
from imagevae.likelihoods import Likelihood, LikelihoodKind
from imagevae.models.image_model import IndependentPixels
from imagevae.models.vae import Vae
from imagevae.networks import MlpConfig, Network
from latent.bound import ElboTerms, ModelConfig
from latent.distributions import (
    Kl,
    NormalHead,
    NormalHeadConfig,
    NormalMixture,
    NormalMixturePrior,
    StandardNormalPriorConfig,
    held_cluster_kl,
    log_prob,
    mixture_kl_bound,
    rsample_and_log_prob,
)

POSTERIOR_SHARE = 0.05  # of the components' mean variance


def vade_network() -> MlpConfig:
    """784–500–500–2000 and back, the networks of DEC and VaDE."""
    return MlpConfig(hidden_sizes=(500, 500, 2000), activation="relu")


@dataclass(frozen=True, kw_only=True)
class VadeConfig(ModelConfig):
    """p(z) a mixture of `num_clusters` diagonal normals, q(z|x) a diagonal normal; the sizes are the paper's.

    It wants update.kind=pretrained: without its first stage it hardly finds clusters. `dropped_pixels` is the share
    of an image's pixels that the first stage sets to 0 where it reads them, `start` how clusters are found at its end.
    """

    kind: Literal["vade"] = "vade"
    latent_size: PositiveInt = 10
    num_clusters: PositiveInt = 10
    network: Network = field(default_factory=vade_network)
    likelihood: LikelihoodKind = "bernoulli"
    variance_floor: PositiveFloat = 1e-3  # of every component in every dimension
    dropped_pixels: Annotated[float, Field(ge=0, lt=1)] = 0.0
    start: Start = field(default_factory=MixtureStart)

    @property
    def has_kl_per_dimension(self) -> bool:
        """No: it is bounded over the clusters together."""
        return False

    def build(self, form: ImageForm) -> "Vade":
        """The model for images of this form; it knows no labels."""
        return Vade(
            form,
            latent_size=self.latent_size,
            num_clusters=self.num_clusters,
            network=self.network,
            likelihood=self.likelihood,
            variance_floor=self.variance_floor,
            dropped_pixels=self.dropped_pixels,
            start=self.start,
        )


class Vade(IndependentPixels):
    """p(c) p(z|c) p(x|z) with c one of K clusters, and q(z|x) p(c|z) as its approximate posterior."""

    def __init__(
        self,
        form: ImageForm,
        *,
        latent_size: int,
        num_clusters: int,
        network: Network,
        likelihood: LikelihoodKind,
        variance_floor: float,
        dropped_pixels: float,
        start: Start,
    ) -> None:
        super().__init__()
        self.form = form
        self.num_classes = 0  # that it is told
        self.latent_size = latent_size
        self.num_clusters = num_clusters
        self.dropped_pixels = dropped_pixels
        self.start = start
        self.vae = Vae(form, 0, latent_size, network, likelihood, NormalHeadConfig(), StandardNormalPriorConfig())
        self.mixture = NormalMixturePrior(num_clusters, latent_size, variance_floor)

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z)'s last step."""
        return self.vae.likelihood

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Let the decoder begin with the mean of the training images."""
        self.vae.start_at(mean)

    def posterior(self, batch: ImageBatch) -> Distribution:
        """q(z|x): batch shape B, event shape Z."""
        return self.vae.posterior(batch)

    def prior(self, batch: ImageBatch) -> NormalMixture:
        """p(z), the mixture: batch shape B, event shape Z."""
        found: NormalMixture = self.mixture(len(batch))
        return found

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(x|z) in nats, summed over the pixels."""
        return self.vae.log_likelihood(z, batch)

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """What the decoder says of each of D pixels: the logit of a Bernoulli, the location of other likelihoods."""
        return self.vae.outputs(z, batch)

    def terms(
        self, q: Distribution, batch: ImageBatch, num_samples: int = 1, *, path_gradient: bool = False
    ) -> ElboTerms:
        r"""The bound's terms for draws of q, computed already.

        `kl` is no KL but an upper bound on KL(q || p), closed but for γ = p(c|z) at the draw (`mixture_kl_bound`), so
        that `elbo` is below the ELBO of the mixture. `log_prior` is the mixture's exact density: `log_weight` and all
        that is made of it are those of the model with c summed out.
        """
        z, log_posterior = rsample_and_log_prob(q, num_samples, path_gradient=path_gradient)
        p = self.prior(batch)
        kl = Kl(mixture_kl_bound(q, p, z), None, closed_form=True)
        return ElboTerms.of(z, self.log_likelihood(z, batch), log_prob(p, z), log_posterior, kl, p, q)

    def held_terms(
        self, batch: ImageBatch, clusters: Int64[Tensor, " B"], num_samples: int, *, path_gradient: bool
    ) -> ElboTerms:
        """The terms of the bound on log p(x, c), c the images' clusters, which are taken as known."""
        q, p = self.posterior(batch), self.prior(batch)
        z, log_posterior = rsample_and_log_prob(q, num_samples, path_gradient=path_gradient)
        log_prior = p.joint_log_prob(z)[..., torch.arange(len(batch), device=z.device), clusters]
        kl = Kl(held_cluster_kl(q, p, clusters), None, closed_form=True)
        return ElboTerms.of(z, self.log_likelihood(z, batch), log_prior, log_posterior, kl, p, q)

    def cluster_log_probs(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B K"]:
        """ln p(c|z) of each cluster."""
        p: NormalMixture = self.mixture(len(z))
        return p.cluster_log_probs(z)

    def validation_figures(self, q: Distribution) -> dict[str, float]:
        """How evenly the clusters are used: `cluster_margin` below 0 says that some have died.

        It is the entropy of the mean p(c|z) over the posterior means, in nats, less ln K − 1.
        """
        with torch.no_grad():
            entropy = usage_entropy(self.cluster_log_probs(q.mean))
        return {"cluster_entropy": entropy, "cluster_margin": entropy - (math.log(self.num_clusters) - 1)}

    def sample_cluster(self, cluster: int, num_samples: int) -> Float[Tensor, "N Z"]:
        """Draws of p(z|c). Raises ValueError for a cluster that there is not."""
        if not 0 <= cluster < self.num_clusters:
            raise ValueError(f"cluster {cluster}: there are clusters 0 to {self.num_clusters - 1}")
        components = self.mixture(num_samples).components
        drawn: Tensor = torch.normal(components.loc[:, cluster], components.scale[:, cluster])
        return drawn

    def pretraining_loss(self, batch: ImageBatch) -> Float[Tensor, " B"]:
        """−log p(x|z) at z the posterior mean of x with some pixels set to 0: a denoising autoencoder's loss, in nats.

        Reference: Vincent et al. 2010, "Stacked Denoising Autoencoders". All layers are trained at once, not stacked.
        """
        kept = torch.rand_like(batch.pixels) >= self.dropped_pixels
        noisy = replace(batch, pixels=batch.pixels * kept)
        return -self.log_likelihood(self.posterior(noisy).mean.unsqueeze(0), batch)[0]

    def initialise(self, batches: Iterator[ImageBatch], seed: int) -> Int64[Tensor, " N"]:
        """Find clusters of the posterior means of the images, and let all posteriors begin equally narrow.

        Labels have no say. The posterior's variance, which the first stage leaves untrained, becomes the same share of
        the components' mean variance for every image. Returns each image's cluster, by its index.
        """
        with torch.no_grad():
            found = [(batch.indices, self.posterior(batch).mean) for batch in batches]
            indices, means = (torch.cat(parts) for parts in zip(*found, strict=True))
            if len(means) < self.num_clusters:
                raise ValueError(f"model.num_clusters: {self.num_clusters} clusters for {len(means)} images; set less")
            start = self.start.find(means.double().cpu().numpy(), self.num_clusters, seed)
            parts = (torch.from_numpy(part).to(means) for part in (start.weights, start.centres, start.variances))
            weights, centres, variances = parts
            self.mixture.start_at(weights, centres, variances)
            assert isinstance(self.vae.head, NormalHead)
            head = self.vae.head.log_variance
            head.weight.zero_()
            head.bias.copy_((POSTERIOR_SHARE * weights @ variances).log())
            return torch.from_numpy(start.clusters).to(indices)[indices.argsort()]


def usage_entropy(log_probs: Float[Tensor, "N K"]) -> float:
    """The entropy of the mean p(c|z) over N images, in nats: ln K where the K clusters are used alike."""
    mean = log_probs.double().exp().mean(0)
    return float(torch.special.entr(mean).sum())
