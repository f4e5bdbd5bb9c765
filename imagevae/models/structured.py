r"""Structured prediction: of an image a part x is given and the rest, y, is predicted, its pixels together.

\[ \log p(y|x) \ge \mathbb{E}_{q(z|x,y)}[\log p(y|x,z)] - \mathrm{KL}(q(z|x,y) \| p(z|x)) \]

Reference: Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models".
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.likelihoods import Bernoulli
from imagevae.models.image_model import IndependentPixels
from imagevae.networks import MlpConfig, Network, initialised
from latent.distributions import NormalHead, at_least_float32, standard_normal


def structured_network() -> MlpConfig:
    """Two layers of 1,000 rectified units, the paper's for all its networks on MNIST."""
    return MlpConfig(hidden_sizes=(1000, 1000), activation="relu")


@dataclass(frozen=True, kw_only=True)
class StructuredBaselineConfig:
    """p(y|x) with independent pixels, by a network that reads x: what a latent variable is held against."""

    kind: Literal["structured_baseline"] = "structured_baseline"
    network: Network = field(default_factory=structured_network)
    likelihood: Literal["bernoulli"] = "bernoulli"

    def build(self, form: ImageForm) -> "StructuredBaseline":
        """The model for images of which a part is given. Raises ValueError where none is."""
        check_context(self.kind, form)
        return StructuredBaseline(form, self.network)


@dataclass(frozen=True, kw_only=True)
class StructuredCvaeConfig:
    """p(z|x), q(z|x, y) and p(y|x, z), each a network like the baseline's; the sizes are those of the paper's re-run.

    Without `recognition` q(z|x, y) is p(z|x): the KL is 0 and the bound E_p(z|x)[log p(y|x, z)], a Gaussian stochastic
    neural network. `freeze_baseline` takes the baseline as its first stage left it, which update.kind=pretrained is;
    else it is trained with the rest.
    """

    kind: Literal["structured_cvae"] = "structured_cvae"
    latent_size: PositiveInt = 200
    network: Network = field(default_factory=structured_network)
    likelihood: Literal["bernoulli"] = "bernoulli"
    recognition: bool = True
    freeze_baseline: bool = False

    def build(self, form: ImageForm) -> "StructuredCvae":
        """The model for images of which a part is given. Raises ValueError where none is."""
        check_context(self.kind, form)
        return StructuredCvae(
            form,
            self.latent_size,
            self.network,
            recognition=self.recognition,
            freeze_baseline=self.freeze_baseline,
        )


def check_context(kind: str, form: ImageForm) -> None:
    """Raise ValueError where nothing of an image is given to a model of this kind."""
    if form.num_observed == 0:
        raise ValueError(
            f"model.kind: a {kind} is given a part of each image, and the corpus gives none; set "
            "corpus.kind=mnist_quadrants or digits_quadrants"
        )


class BaselineNetwork(nn.Module):
    """From x to a logit for every pixel; what it says of the pixels of x itself is of no use."""

    def __init__(self, form: ImageForm, network: Network) -> None:
        super().__init__()
        self.encoder = network.encoder(form, 0)
        self.output = initialised(nn.Linear(self.encoder.num_features, form.num_pixels))

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Begin with the mean of the training images."""
        with torch.no_grad():
            self.output.bias.copy_(Bernoulli(mean.size).initial_bias(torch.from_numpy(mean).float().flatten()))

    def forward(self, batch: ImageBatch) -> Float[Tensor, "B D"]:
        """A logit for each of D pixels, of which those of y count."""
        found: Tensor = self.output(read(self.encoder, given(batch).to(self.output.weight.dtype)))
        return found


class NormalNetwork(nn.Module):
    """From an image, complete by the truth or by a guess, to a diagonal normal."""

    def __init__(self, form: ImageForm, network: Network, latent_size: int) -> None:
        super().__init__()
        self.encoder = network.encoder(form, 0)
        self.head = NormalHead(self.encoder.num_features, latent_size)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Distribution:
        """Batch shape B, event shape Z."""
        found: Distribution = self.head(read(self.encoder, images.to(self.head.mean.weight.dtype)))
        return found


def read(encoder: nn.Module, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
    """The encoder's features of images alone."""
    found: Tensor = encoder(images, images.new_zeros(len(images), 0))
    return found


def given(batch: ImageBatch) -> Float[Tensor, "B C H W"]:
    """x, with 0 where y is."""
    assert batch.context is not None
    return batch.context


def completed(batch: ImageBatch, y: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """x and, where it is not given, y: one image of both."""
    assert batch.scored is not None
    return torch.where(batch.scored, y, given(batch).to(y.dtype))


def scored_log_likelihood(logits: Float[Tensor, "S B D"], batch: ImageBatch) -> Float[Tensor, "S B"]:
    r"""\(\log p(y|a) = \sum_d y_d a_d - \ln(1 + e^{a_d})\) in nats, over the pixels of y alone."""
    assert batch.scored is not None
    logits = at_least_float32(logits)
    of_pixels = logits * batch.pixels.flatten(1) - F.softplus(logits)
    return torch.where(batch.scored.flatten(), of_pixels, 0.0).sum(-1)


class StructuredBaseline(IndependentPixels):
    """p(y|x) as a decoder of a z without dimensions: the bound is log p(y|x) itself."""

    latent_size = 0

    def __init__(self, form: ImageForm, network: Network) -> None:
        super().__init__()
        self.form = form
        self.num_classes = 0  # that it is told
        self.baseline = BaselineNetwork(form, network)
        self.likelihood = Bernoulli(form.num_pixels)

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Begin with the mean of the training images."""
        self.baseline.start_at(mean)

    def posterior(self, batch: ImageBatch) -> Distribution:
        """The prior: batch shape B, event shape 0."""
        return self.prior(batch)

    def prior(self, batch: ImageBatch) -> Distribution:
        """The one distribution over no dimensions: batch shape B, event shape 0."""
        return standard_normal(len(batch), self.latent_size, self.baseline.output.weight)

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(y|x) in nats, whatever the draw."""
        return scored_log_likelihood(self.outputs(z, batch), batch)

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """A logit for each of D pixels, of which those of y count; the same for every draw."""
        logits: Tensor = self.baseline(batch)
        return logits.expand(len(z), -1, -1)


class StructuredCvae(IndependentPixels):
    r"""With ŷ = σ(baseline(x)): p(z|x) reads x and ŷ, q(z|x, y) reads x and y, and p(y|x, z) has the logits

    \[ a = \mathrm{baseline}(x) + \mathrm{decoder}(z). \]

    x and y, or ŷ, are read as one image. That the prior network sees the baseline's guess is what the paper calls a
    recurrent connection. A prediction draws z from p(z|x): q has a say in training and in the bound alone.
    """

    def __init__(
        self, form: ImageForm, latent_size: int, network: Network, *, recognition: bool, freeze_baseline: bool
    ) -> None:
        super().__init__()
        self.form = form
        self.num_classes = 0  # that it is told
        self.latent_size = latent_size
        self.freeze_baseline = freeze_baseline
        self.baseline = BaselineNetwork(form, network)
        self.prior_network = NormalNetwork(form, network, latent_size)
        self.recognition = NormalNetwork(form, network, latent_size) if recognition else None
        self.decoder = network.decoder(form, latent_size)
        self.likelihood = Bernoulli(form.num_pixels)

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Let the baseline begin with the mean of the training images, to which the decoder adds."""
        self.baseline.start_at(mean)

    def posterior(self, batch: ImageBatch) -> Distribution:
        """q(z|x, y), or p(z|x) for a model without a recognition network: batch shape B, event shape Z."""
        if self.recognition is None:
            return self.prior(batch)
        q: Distribution = self.recognition(completed(batch, batch.pixels))
        return q

    def prior(self, batch: ImageBatch) -> Distribution:
        """p(z|x): batch shape B, event shape Z."""
        guess = self.form.images(torch.sigmoid(at_least_float32(self.baseline_logits(batch))))
        p: Distribution = self.prior_network(completed(batch, guess))
        return p

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(y|x, z) in nats, summed over the pixels of y."""
        return scored_log_likelihood(self.outputs(z, batch), batch)

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """A logit for each of D pixels, of which those of y count."""
        added: Tensor = self.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return self.baseline_logits(batch) + added

    def baseline_logits(self, batch: ImageBatch) -> Float[Tensor, "B D"]:
        """What the baseline says by itself; a frozen one has no gradient."""
        logits: Tensor = self.baseline(batch)
        return logits.detach() if self.freeze_baseline else logits

    def pretraining_loss(self, batch: ImageBatch) -> Float[Tensor, " B"]:
        """−log p(y|x) of the baseline by itself, in nats."""
        return -scored_log_likelihood(self.baseline(batch).unsqueeze(0), batch)[0]

    def initialise(self, batches: Iterator[ImageBatch], seed: int) -> None:
        """After the baseline's stage the other networks are as they were drawn."""
