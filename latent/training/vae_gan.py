"""`kind: vae_gan`: a discriminator's features judge what is reconstructed, and the decoder learns to fool it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from latent.bound import Batch, ElboTerms, LatentModel, Loss, Objective
from latent.distributions import at_least_float32
from latent.training.adversarial import adversary_of, negative_log, prior_draws
from latent.training.joint import Batches, Metrics, backward, batches_of_step, descend_by_gradient, gather
from latent.training.state import TrainState

Features = Float[Tensor, "M F"]
Logits = Float[Tensor, " M"]


@runtime_checkable
class Generative(Protocol):
    """A model whose decoder can learn from a discriminator of the examples that it makes."""

    def discriminator(self, channels: Sequence[int], hidden_size: int, feature_layer: int) -> nn.Module:
        """A network from M examples to features, "M F", and logits of their being observed, "M"."""

    def observed(self, batch: Any) -> Tensor:
        """The batch's own B examples, as the discriminator sees them."""

    def generated(self, z: Float[Tensor, "S B Z"], batch: Any) -> Tensor:
        """S times B examples in the same form, with a gradient."""

    def decoder_parameters(self) -> list[nn.Parameter]:
        """What `generated` depends on beside z."""


@dataclass(frozen=True)
class Losses:
    """What each of the three networks goes down, and what the gates look at; means over examples."""

    encoder: Loss  # a learned prior's as well
    decoder: Float[Tensor, ""]
    discriminator: Float[Tensor, ""]
    figures: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class VaeGanUpdate:
    r"""A VAE whose reconstruction is measured in the features \(D_l\) of a discriminator D, which is trained with it.

    With x̃ = G(z), z ~ q(z|x), and x_p = G(z_p), z_p ~ p(z), of the decoder G,

    \[ \mathcal L_l = \tfrac12 \lVert D_l(x) - D_l(\tilde x) \rVert^2, \quad
    \mathcal A = -\tfrac12 \log D(\tilde x) - \tfrac12 \log D(x_p), \]
    \[ \mathcal C = -\log D(x) - \tfrac12 \log(1 - D(\tilde x)) - \tfrac12 \log(1 - D(x_p)), \]
    the means over examples, the parameters receive the gradients of

    - encoder, and a learned prior: the objective, with −L_l as log p(x|z): KL + L_l, and nothing of D's judgement;
    - decoder: w L_l + (1 − w) A, w being `reconstruction_share`; z is fixed in it;
    - discriminator: C alone, and nothing of L_l.

    L_l is −log N(D_l(x); D_l(x̃), I) without its constant. Each network's gradient is clipped by itself. C is the sum of
    the costs of observed and of generated examples, by which a step is gated: D pauses where one of them is below
    `equilibrium` − `margin`, the decoder where one is above `equilibrium` + `margin`; where both would, neither does.
    A pause leaves an optimizer's moments as they are. Nothing here is a bound on log p(x).

    D's layers are convolutions of stride 2 and a hidden one, counted from 1; those from the second on are normalised
    over each example by itself. Its optimizer, with a constant learning rate, is in every checkpoint as it is.

    Reference: Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric", algorithm 1, with the
    gates of the authors' code. In A they have log(1 − D), whose gradient vanishes where D is sure.
    """

    kind: Literal["vae_gan"] = "vae_gan"
    reconstruction_share: Annotated[float, Field(ge=0, le=1)] = 1e-6  # w
    equilibrium: PositiveFloat = 0.68  # nats: near ln 2, the costs of a D that cannot tell
    margin: PositiveFloat | None = 0.35  # null: no pauses
    show_reconstructions: bool = True  # to D; else it sees x and x_p alone
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (32, 64)  # of the discriminator
    hidden_size: PositiveInt = 256  # of the discriminator
    feature_layer: PositiveInt = 2  # l; theirs is the last convolution
    learning_rate: PositiveFloat = 5e-4  # of the discriminator
    max_gradient_norm: PositiveFloat = 5.0
    trains_bound: ClassVar[bool] = False

    def __post_init__(self) -> None:
        num_layers = len(self.channels) + 1
        if self.feature_layer > num_layers:
            raise ValueError(
                f"update.feature_layer: {self.feature_layer} of a discriminator with {num_layers} layers; "
                f"set it to {num_layers} at most, or give more update.channels"
            )

    def prepare(self, state: TrainState) -> None:
        """Give the state a discriminator; its weights are drawn after those of the model, which they leave alone."""
        module = generative(state.model).discriminator(self.channels, self.hidden_size, self.feature_layer)
        state.adversary = adversary_of(state.model, module, self.learning_rate)

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take a step of the encoder and of the other two, unless they pause. Raises as `losses` does."""
        model, adversary = state.model, state.adversary
        assert adversary is not None  # `prepare` comes first
        decoder = generative(model).decoder_parameters()
        theirs = {id(parameter) for parameter in decoder}
        encoder = [parameter for parameter in model.parameters() if id(parameter) not in theirs]
        adversary.optimizer.zero_grad(set_to_none=True)

        def add_gradient(batch: Batch, weight: float) -> Loss:
            losses = self.losses(state, batch, objective)
            backward(state, losses.encoder.value * weight, encoder, retain_graph=True)
            backward(state, losses.decoder * weight, decoder, retain_graph=True)
            (losses.discriminator * weight).backward(inputs=list(adversary.module.parameters()))
            logged = {name: value for name, value in losses.encoder.logged.items() if name != "elbo"}
            return replace(losses.encoder, logged={**logged, **losses.figures})

        together = gather(state, batches_of_step(state, batches), add_gradient)
        costs = [together.loss.logged[name] for name in ("real_cost", "generated_cost")]
        decoder_steps, discriminator_steps = self.who_steps(costs)
        if not decoder_steps:
            for parameter in decoder:
                parameter.grad = None
        norm = descend_by_gradient(state, self.max_gradient_norm, [encoder, *([decoder] if decoder_steps else [])])
        if discriminator_steps:
            nn.utils.clip_grad_norm_(adversary.module.parameters(), self.max_gradient_norm)
            adversary.optimizer.step()
        steps = {"decoder_steps": float(decoder_steps), "discriminator_steps": float(discriminator_steps)}
        return {**together.metrics(state, norm), **steps}

    def losses(self, state: TrainState, batch: Batch, objective: Objective) -> Losses:
        """All losses of a batch in one graph; whom each has a gradient for is said when it goes backward.

        Raises ValueError for a prior without draws.
        """
        adversary = state.adversary
        assert adversary is not None  # `prepare` comes first
        model = generative(state.model)
        state.model.at_step(state.step)
        with state.accelerator.autocast():  # not the model's forward, which would decode z for a likelihood of pixels
            terms = state.model.latent_terms(state.model.posterior(batch), batch, objective.num_samples)
            of_z, of_prior = (model.generated(z, batch) for z in (terms.z, prior_draws(terms, self.kind)))
            found = [model.observed(batch), of_z, of_prior]
            features, logits = (at_least_float32(each) for each in adversary.module(torch.cat(found)))
        sizes = [len(each) for each in found]
        observed, reconstructions, _ = features.split(sizes)
        real, reconstructed, drawn = logits.split(sizes)
        shown = torch.cat([reconstructed, drawn]) if self.show_reconstructions else drawn
        terms = _of_features(terms, observed, reconstructions)
        distance, caught = -terms.log_likelihood.mean(), negative_log(shown)
        real_cost, generated_cost = negative_log(real), negative_log(-shown)
        w = self.reconstruction_share
        named = {"adversary": caught, "real_cost": real_cost, "generated_cost": generated_cost}
        return Losses(
            encoder=objective(terms, state.step, state.feedback),
            decoder=w * distance + (1 - w) * caught,
            discriminator=real_cost + generated_cost,
            figures={name: value.detach() for name, value in named.items()},
        )

    def who_steps(self, costs: Sequence[Tensor | float]) -> tuple[bool, bool]:
        """Whether decoder and discriminator take a step, by the costs of observed and generated examples."""
        if self.margin is None:
            return True, True
        found = [float(cost) for cost in costs]  # which waits for the device
        decoder = not any(cost > self.equilibrium + self.margin for cost in found)
        discriminator = not any(cost < self.equilibrium - self.margin for cost in found)
        return (decoder, discriminator) if decoder or discriminator else (True, True)

    def may_pass_over(self, step: int) -> bool:
        """Any step is like the others."""
        return True

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """Nothing hangs on a validation."""

    def check_objective(self, objective: Objective) -> None:
        """Raise ValueError where importance weights or draws of the prior are asked for: of a likelihood of pixels."""
        if objective.kind in ("hybrid", "iwae"):
            raise ValueError(
                f"objective.kind: {objective.kind} is not for update.kind vae_gan, whose loss is no bound; "
                "set objective.kind=elbo"
            )

    def check(self, model: LatentModel[Any]) -> None:
        """Raise ValueError for a model that makes nothing which a discriminator could be shown."""
        generative(model)


def generative(model: LatentModel[Any]) -> Generative:
    """The model as one that makes examples. Raises ValueError where it is none."""
    if not isinstance(model, Generative):
        raise ValueError(
            "update.kind: vae_gan needs a model of images whose decoder a discriminator can teach, and "
            f"{type(model).__name__} is none; set update.kind=joint"
        )
    return model


def _of_features(terms: ElboTerms, observed: Features, reconstructed: Features) -> ElboTerms:
    """The terms with the features' log-likelihood, without its constant, in the place of the pixels'."""
    squared = (reconstructed.unflatten(0, terms.z.shape[:2]) - observed).square().sum(-1)
    return replace(terms, log_likelihood=-0.5 * squared)
