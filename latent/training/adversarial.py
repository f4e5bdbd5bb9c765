"""`kind: adversarial`: a discriminator tells the posteriors' z from the prior's, and the encoder learns to fool it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from latent.bound import Batch, ElboTerms, LatentModel, Loss, Objective
from latent.training.aggressive import frozen
from latent.training.joint import Batches, Metrics, batches_of_step, step_down, terms_of
from latent.training.state import Adversary, TrainState

BETAS = (0.5, 0.999)  # of the discriminator's Adam, as the authors' code has them


@dataclass(frozen=True, kw_only=True)
class AdversarialUpdate:
    r"""An adversarial autoencoder: draws of q_agg are brought to the prior by a discriminator D of z.

    \[ \min_{\theta, \phi} \; \mathrm{objective} - \lambda \, \mathbb{E}_{q(z|x)} \log D(z), \quad
    \max_D \; \mathbb{E}_{p(z)} \log D(z) + \mathbb{E}_{q(z|x)} \log (1 - D(z)) \]

    The model takes its step and D takes one on the same z, through which no gradient goes. D is a network with
    one layer of rectifiers; it has an optimizer and a constant learning rate of its own, and both are in every
    checkpoint. With `objective.kl_weight` 0 this is the adversarial autoencoder, with noise on the encoder's words the
    denoising one. The posterior stays what the model's head makes it, so the bound and all measures are what they are
    elsewhere.

    References: Makhzani et al. 2016, "Adversarial Autoencoders"; Shen et al. 2020, "Educating Text Autoencoders: Latent
    Representation Guidance via Denoising", whose values are the defaults.
    """

    kind: Literal["adversarial"] = "adversarial"
    weight: PositiveFloat = 10.0  # λ
    hidden_size: PositiveInt = 512  # of the discriminator
    learning_rate: PositiveFloat = 5e-4  # of the discriminator
    max_gradient_norm: PositiveFloat = 5.0
    trains_bound: ClassVar[bool] = True

    def prepare(self, state: TrainState) -> None:
        """Give the state a discriminator; its weights are drawn after those of the model, which they leave alone."""
        size = state.model.latent_size
        module = nn.Sequential(nn.Linear(size, self.hidden_size), nn.ReLU(), nn.Linear(self.hidden_size, 1))
        state.adversary = adversary_of(state.model, module, self.learning_rate)

    def __call__(self, state: TrainState, batches: Batches, objective: Objective) -> Metrics:
        """Take one step of the model and one of the discriminator.

        Raises ValueError for a model whose prior cannot be drawn from.
        """
        adversary = state.adversary
        assert adversary is not None  # `prepare` comes first
        adversary.optimizer.zero_grad(set_to_none=True)

        def loss_of(batch: Batch) -> Loss:
            terms = terms_of(state, batch, objective)
            drawn = prior_draws(terms, self.kind)
            loss = objective(terms, state.step, state.feedback)
            with frozen(adversary.module.parameters()):
                caught = negative_log(adversary.module(terms.z))
            value = loss.value + self.weight * caught
            error = negative_log(adversary.module(drawn)) + negative_log(-adversary.module(terms.z.detach()))
            (error * (batch.weight / state.batches_per_step)).backward()
            figures = {"loss": value.detach(), "adversary": caught.detach(), "discriminator": error.detach()}
            return Loss(value, {**loss.logged, **figures}, loss.feedback)

        metrics = step_down(state, batches_of_step(state, batches), loss_of, self.max_gradient_norm)
        adversary.optimizer.step()
        return metrics

    def may_pass_over(self, step: int) -> bool:
        """Any step is like the others."""
        return True

    def after_validation(self, state: TrainState, found: Mapping[str, float]) -> None:
        """Nothing hangs on a validation."""

    def check_objective(self, objective: Objective) -> None:
        """Raise ValueError for an objective that weighs the gradient of z, the adversary's with it."""
        if objective.path_gradient:
            raise ValueError(
                "update.kind: adversarial: DReG would weigh its gradient too; set objective.gradient=standard"
            )

    def check(self, model: LatentModel[Any]) -> None:
        """Raise ValueError for a model without a z to tell apart."""
        if model.latent_size == 0:
            raise ValueError(f"update.kind: adversarial needs a z, and {type(model).__name__} has none; use joint")


def adversary_of(model: LatentModel[Any], module: nn.Module, learning_rate: float) -> Adversary:
    """A discriminator where the model is and of its type, with an Adam of its own."""
    like = next(model.parameters())
    module = module.to(like.device, like.dtype)
    return Adversary(module, torch.optim.Adam(module.parameters(), lr=learning_rate, betas=BETAS, fused=True))


def negative_log(logits: Float[Tensor, "*M"]) -> Float[Tensor, ""]:
    """−log sigmoid(logits), the mean over draws and examples."""
    return F.softplus(-logits).mean()


def prior_draws(terms: ElboTerms, kind: str) -> Float[Tensor, "S B Z"]:
    """As many draws of the prior as of the posterior, without a gradient. Raises ValueError for one without draws."""
    if terms.prior is None:
        raise ValueError(f"update.kind: {kind}: this model gives no prior to draw from; set update.kind=joint")
    return terms.prior.sample(torch.Size([len(terms.z)])).to(terms.z.dtype)
