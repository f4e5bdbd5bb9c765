"""Controllers: factors on the KL weight that follow the KL itself.

A schedule is a function of the step; a controller is a pure function of the batch's KL and of what it said at the step
before, which the training's state holds and every checkpoint stores. No step waits for the device.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from latent.bound.loss import Feedback


def _recalled(feedback: Feedback, name: str, start: float, kl: Tensor) -> Tensor:
    """What was stored, or the start: in the KL's precision either way, so that a resumed run computes the same."""
    return torch.as_tensor(feedback.get(name, start), dtype=kl.dtype, device=kl.device)


@dataclass(frozen=True, kw_only=True)
class MinimumRate:
    r"""Minimum desired rate: the ELBO under the constraint KL ≥ `target`, by a Lagrange multiplier.

    \[ \min_{\theta, \phi} \max_{u \ge 0} \; \mathbb{E}_q[-\log p(x|z)] + \mathrm{KL} + u (C - \mathrm{KL}) \]

    The model sees the KL with the factor 1 − u, and u climbs its own gradient g = C − KL, the KL being the mean of the
    batch, by RMSprop as in the authors' code: v ← 0.99 v + 0.01 g², u ← max(0, u + rate · g / √v). So u moves by about
    `rate` a step however far the KL is from C: it comes down as slowly as a weight is annealed. Where the bound keeps
    its KL above C by itself, u falls to 0: the plain bound.

    Reference: Pelsmaeker & Aziz 2020, "Effective Estimation of Deep Generative Language Models".
    """

    kind: Literal["mdr"] = "mdr"
    target: PositiveFloat  # C, in nats per example
    start: NonNegativeFloat = 1.01  # u at the first step: a little above 1, so that the KL is first rewarded
    rate: PositiveFloat = 1e-3

    def __call__(self, kl: Float[Tensor, ""], feedback: Feedback) -> tuple[Float[Tensor, ""], Feedback]:
        """Return the factor for a batch of mean KL `kl`, in nats and without gradient, and the next feedback."""
        multiplier = _recalled(feedback, "multiplier", self.start, kl)
        gradient = self.target - kl
        square = 0.99 * _recalled(feedback, "multiplier_square", 0.0, kl) + 0.01 * gradient.square()
        moved = multiplier + self.rate * gradient / (square.sqrt() + 1e-8)  # the last keeps 0 / 0 at 0
        return 1.0 - multiplier, {"multiplier": moved.clamp(min=0.0), "multiplier_square": square}


@dataclass(frozen=True, kw_only=True)
class ProportionalIntegral:
    r"""ControlVAE: a non-linear PI controller that holds the KL at `target`.

    \[ \beta_t = \frac{K_p}{1 + \exp(C - \mathrm{KL}_t)} + I_t + \beta_{\min}, \quad
    I_t = I_{t-1} - K_i (C - \mathrm{KL}_t), \]

    cut to `lowest` … `highest`. Against windup, I is held to the range in which it can still move the weight; the paper
    freezes it while the weight is out of range, which in code that has cut the weight already never happens.

    Reference: Shao et al. 2020, "ControlVAE: Controllable Variational Autoencoder", algorithm 1.
    """

    kind: Literal["pi"] = "pi"
    target: PositiveFloat  # C, in nats per example
    proportional: NonNegativeFloat = 0.01  # K_p
    integral: PositiveFloat = 1e-4  # K_i, per nat and step
    lowest: NonNegativeFloat = 0.0
    highest: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest ({self.lowest}) has to be below highest ({self.highest})")

    def __call__(self, kl: Float[Tensor, ""], feedback: Feedback) -> tuple[Float[Tensor, ""], Feedback]:
        """Return the factor for a batch of mean KL `kl`, in nats and without gradient, and the next feedback."""
        excess = kl - self.target
        integral = _recalled(feedback, "integral", 0.0, kl) + self.integral * excess
        integral = integral.clamp(0.0, self.highest - self.lowest)
        weight = self.proportional * torch.sigmoid(excess) + integral + self.lowest
        return weight.clamp(self.lowest, self.highest), {"integral": integral}


@dataclass(frozen=True, kw_only=True)
class SoftFreeBits:
    """Soft free bits: the weight falls by the factor 1 + rate where KL < target, and rises by it above 1.05 target.

    Reference: Chen et al. 2017, "Variational Lossy Autoencoder".
    """

    kind: Literal["soft_free_bits"] = "soft_free_bits"
    target: PositiveFloat  # in nats per example
    tolerance: NonNegativeFloat = 0.05  # share of the target by which the KL may exceed it
    start: PositiveFloat = 0.1
    rate: PositiveFloat = 0.1
    lowest: PositiveFloat = 1e-4
    highest: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        if not self.lowest <= self.start <= self.highest:
            raise ValueError(f"start ({self.start}) has to be within lowest ({self.lowest}) … highest ({self.highest})")

    def __call__(self, kl: Float[Tensor, ""], feedback: Feedback) -> tuple[Float[Tensor, ""], Feedback]:
        """Return the factor for a batch of mean KL `kl`, in nats and without gradient, and the next feedback."""
        weight = _recalled(feedback, "soft_weight", self.start, kl)
        grown = torch.where(kl > (1.0 + self.tolerance) * self.target, weight * (1.0 + self.rate), weight)
        moved = torch.where(kl < self.target, weight / (1.0 + self.rate), grown)
        return weight, {"soft_weight": moved.clamp(self.lowest, self.highest)}


Controller = Annotated[MinimumRate | ProportionalIntegral | SoftFreeBits, Field(discriminator="kind")]
