r"""Structured prediction: x, a part of an image or another image, is given, and y, the rest or the image, predicted.

\[ \log p(y|x) \ge \mathbb{E}_{q(z|x,y)}[\log p(y|x,z)] - \mathrm{KL}(q(z|x,y) \| p(z|x)) \]

Reference: Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.form import ImageForm
from imagevae.likelihoods import Bernoulli
from imagevae.models.image_model import IndependentPixels
from imagevae.networks import ConvConfig, MlpConfig, Prediction
from imagevae.scales import log_likelihood_of_reduced, reduced
from imagevae.unet import UnetConfig
from latent.bound import ElboTerms, ModelConfig
from latent.distributions import at_least_float32, standard_normal

StructuredNetwork = Annotated[MlpConfig | ConvConfig | UnetConfig, Field(discriminator="kind")]


def structured_network() -> MlpConfig:
    """Two layers of 1,000 rectified units, the paper's for all its networks on MNIST."""
    return MlpConfig(hidden_sizes=(1000, 1000), activation="relu")


@dataclass(frozen=True, kw_only=True)
class StructuredBaselineConfig(ModelConfig):
    """p(y|x) with independent pixels, by a network that reads x: what a latent variable is held against."""

    kind: Literal["structured_baseline"] = "structured_baseline"
    network: StructuredNetwork = field(default_factory=structured_network)
    likelihood: Literal["bernoulli"] = "bernoulli"

    @property
    def posterior_is_free(self) -> bool:
        """There is no z."""
        return False

    def build(self, form: ImageForm) -> "StructuredBaseline":
        """The model for images with which something is given. Raises ValueError where nothing is."""
        check_context(self.kind, form)
        return StructuredBaseline(form, self.network)


@dataclass(frozen=True, kw_only=True)
class StructuredCvaeConfig(ModelConfig):
    """p(z|x), q(z|x, y) and p(y|x, z), each a network like the baseline's; the sizes are those of the paper's re-run.

    Without `recognition` q(z|x, y) is p(z|x): the KL is 0 and the bound E_p(z|x)[log p(y|x, z)], a Gaussian stochastic
    neural network. `freeze_baseline` takes the baseline as its first stage left it, which update.kind=pretrained is;
    else it is trained with the rest.

    `coarser_scales` has y predicted at ½, ¼, … of its sides too, in training alone and beside the bound, with
    objective.auxiliary_weight; the paper has 2 of them.
    """

    kind: Literal["structured_cvae"] = "structured_cvae"
    latent_size: PositiveInt = 200
    network: StructuredNetwork = field(default_factory=structured_network)
    likelihood: Literal["bernoulli"] = "bernoulli"
    recognition: bool = True
    freeze_baseline: bool = False
    coarser_scales: NonNegativeInt = 0

    def build(self, form: ImageForm) -> "StructuredCvae":
        """The model for images with which something is given. Raises ValueError where nothing is."""
        check_context(self.kind, form)
        return StructuredCvae(
            form,
            self.latent_size,
            self.network,
            recognition=self.recognition,
            freeze_baseline=self.freeze_baseline,
            coarser_scales=self.coarser_scales,
        )


def check_context(kind: str, form: ImageForm) -> None:
    """Raise ValueError where a model of this kind is given nothing to predict an image from."""
    if not form.has_context:
        raise ValueError(
            f"model.kind: a {kind} is given a part of each image or another image whole, and the corpus gives neither; "
            "set corpus.kind=mnist_quadrants or digits_quadrants (parts), or masks (photographs)"
        )


def given(batch: ImageBatch) -> Float[Tensor, "B C H W"]:
    """x; where it is a part of the image, with 0 where y is."""
    assert batch.context is not None
    return batch.context


def completed(batch: ImageBatch, y: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """x and, where it is not given, y: one image of both."""
    assert batch.scored is not None
    return torch.where(batch.scored, y, given(batch).to(y.dtype))


def joined(batch: ImageBatch, y: Float[Tensor, "B C H W"]) -> Float[Tensor, "B _ H W"]:
    """x and y as one image: y where x is not given, or, where x is another image, as further channels of it."""
    return torch.cat([given(batch).to(y.dtype), y], 1) if batch.scored is None else completed(batch, y)


def scored_log_likelihood(logits: Float[Tensor, "S B D"], batch: ImageBatch) -> Float[Tensor, "S B"]:
    r"""\(\log p(y|a) = \sum_d y_d a_d - \ln(1 + e^{a_d})\) in nats, over the pixels of y alone."""
    logits = at_least_float32(logits)
    of_pixels = logits * batch.pixels.flatten(1) - F.softplus(logits)
    if batch.scored is None:
        return of_pixels.sum(-1)
    return torch.where(batch.scored.flatten(), of_pixels, 0.0).sum(-1)


class StructuredBaseline(IndependentPixels):
    """p(y|x) as a decoder of a z without dimensions: the bound is log p(y|x) itself."""

    latent_size = 0

    def __init__(self, form: ImageForm, network: StructuredNetwork) -> None:
        super().__init__()
        self.form = form
        self.num_classes = 0  # that it is told
        self.baseline = network.predictor(form)
        self.likelihood = Bernoulli(form.num_pixels)

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Begin with the mean of the training images."""
        self.baseline.start_at(self.likelihood.initial_bias(torch.from_numpy(mean).float().flatten()))

    def posterior(self, batch: ImageBatch) -> Distribution:
        """The prior: batch shape B, event shape 0."""
        return self.prior(batch)

    def prior(self, batch: ImageBatch) -> Distribution:
        """The one distribution over no dimensions: batch shape B, event shape 0."""
        return standard_normal(len(batch), self.latent_size, next(self.parameters()))

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(y|x) in nats, whatever the draw."""
        return scored_log_likelihood(self.outputs(z, batch), batch)

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """A logit for each of D pixels, of which those of y count; the same for every draw."""
        said: Prediction = self.baseline(given(batch))
        return said.logits.expand(len(z), -1, -1)


class StructuredCvae(IndependentPixels):
    r"""With ŷ = σ(baseline(x)): p(z|x) reads x and ŷ, q(z|x, y) reads x and y, and p(y|x, z) has the logits

    \[ a = \mathrm{baseline}(x) + \mathrm{decoder}(z). \]

    A U-Net's decoder also reads the maps of x that its baseline has made.

    x and y, or ŷ, are read as one image, of the channels of both where x is another one. That the prior network sees
    the baseline's guess is what the paper calls a recurrent connection. A prediction draws z from p(z|x): q has a say
    in training and in the bound alone. At coarser scales of y the logits are the means of the baseline's over the
    pixels there, and what the decoder adds to these.
    """

    def __init__(
        self,
        form: ImageForm,
        latent_size: int,
        network: StructuredNetwork,
        *,
        recognition: bool,
        freeze_baseline: bool,
        coarser_scales: int,
    ) -> None:
        super().__init__()
        self.form = form
        self.num_classes = 0  # that it is told
        self.latent_size = latent_size
        self.freeze_baseline = freeze_baseline
        self.coarser_scales = coarser_scales
        self.baseline = network.predictor(form)
        self.prior_network = network.normal(form, latent_size)
        self.recognition = network.normal(form, latent_size) if recognition else None
        self.decoder = network.generator(form, latent_size, coarser_scales)
        self.likelihood = Bernoulli(form.num_pixels)
        self._read: tuple[ImageBatch, Prediction] | None = None

    def start_at(self, mean: Float[np.ndarray, "C H W"]) -> None:
        """Let the baseline begin with the mean of the training images, to which the decoder adds."""
        self.baseline.start_at(self.likelihood.initial_bias(torch.from_numpy(mean).float().flatten()))

    def posterior(self, batch: ImageBatch) -> Distribution:
        """q(z|x, y), or p(z|x) for a model without a recognition network: batch shape B, event shape Z."""
        if self.recognition is None:
            return self.prior(batch)
        q: Distribution = self.recognition(joined(batch, batch.pixels))
        return q

    def prior(self, batch: ImageBatch) -> Distribution:
        """p(z|x): batch shape B, event shape Z."""
        guess = self.form.images(torch.sigmoid(at_least_float32(self.prediction(batch).logits)))
        p: Distribution = self.prior_network(joined(batch, guess))
        return p

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B"]:
        """log p(y|x, z) in nats, summed over the pixels of y."""
        return scored_log_likelihood(self.outputs(z, batch), batch)

    def log_likelihoods(
        self, z: Float[Tensor, "S B Z"], batch: ImageBatch
    ) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"] | None]:
        """log p(y|x, z) in nats, and in training what is to be said of y at coarser scales."""
        said = self.prediction(batch)
        of_image, coarser = self._added(z, said)
        log_likelihood = scored_log_likelihood(said.logits + of_image, batch)
        if not self.training or self.coarser_scales == 0:
            return log_likelihood, None
        logits = reduced(self.form.images(said.logits), self.coarser_scales) + coarser
        return log_likelihood, log_likelihood_of_reduced(logits, batch, self.coarser_scales)

    def outputs(self, z: Float[Tensor, "S B Z"], batch: ImageBatch) -> Float[Tensor, "S B D"]:
        """A logit for each of D pixels, of which those of y count."""
        said = self.prediction(batch)
        return said.logits + self._added(z, said)[0]

    def _added(
        self, z: Float[Tensor, "S B Z"], said: Prediction
    ) -> tuple[Float[Tensor, "S B D"], Float[Tensor, "S B E"]]:
        """What the decoder adds to the baseline's logits: of D pixels, and of E places at coarser scales."""
        added: Tensor = self.decoder(z.flatten(0, 1), *said.maps).unflatten(0, z.shape[:2])
        return added[..., : self.form.num_pixels], added[..., self.form.num_pixels :]

    def prediction(self, batch: ImageBatch) -> Prediction:
        """What the baseline says by itself; a frozen one has no gradient."""
        if self._read is not None and self._read[0] is batch:
            return self._read[1]
        said: Prediction = self.baseline(given(batch))
        return said.detached() if self.freeze_baseline else said

    @contextmanager
    def _reading_once(self, batch: ImageBatch) -> Iterator[None]:
        """While this lasts the baseline is not asked again what it says of this batch."""
        before, self._read = self._read, (batch, self.prediction(batch))
        try:
            yield
        finally:
            self._read = before

    def terms(
        self, q: Distribution, batch: ImageBatch, num_samples: int = 1, *, path_gradient: bool = False
    ) -> ElboTerms:
        """The terms of the bound, for which the baseline reads x once."""
        with self._reading_once(batch):
            return super().terms(q, batch, num_samples, path_gradient=path_gradient)

    def forward(
        self, batch: ImageBatch, num_samples: int = 1, *, path_gradient: bool = False, from_prior: bool = False
    ) -> ElboTerms:
        """The terms of the bound and what else an objective wants, for which the baseline reads x once."""
        with self._reading_once(batch):
            return super().forward(batch, num_samples, path_gradient=path_gradient, from_prior=from_prior)

    def pretraining_loss(self, batch: ImageBatch) -> Float[Tensor, " B"]:
        """−log p(y|x) of the baseline by itself, in nats."""
        said: Prediction = self.baseline(given(batch))
        return -scored_log_likelihood(said.logits.unsqueeze(0), batch)[0]

    def initialise(self, batches: Iterator[ImageBatch], seed: int) -> None:
        """After the baseline's stage the other networks are as they were drawn."""
