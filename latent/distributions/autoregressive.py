"""Autoregressive steps of a flow, their masked networks and maps of one variable out of zuko."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution
from zuko.flows import MaskedAutoregressiveTransform
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from latent.distributions.flows import FlowStep

Distribution.set_default_validate_args(__debug__)  # importing zuko turns the checks of every distribution off

START = 0.01  # of the last layer's weights, so that a step begins near the identity
NUM_BINS = 8  # of a spline on [-5, 5]; beyond them it is the identity
UNIVARIATE = {
    "affine": {"univariate": MonotonicAffineTransform, "shapes": ((), ())},
    "spline": {"univariate": MonotonicRQSTransform, "shapes": ((NUM_BINS,), (NUM_BINS,), (NUM_BINS - 1,))},
}
UnivariateName = Literal["affine", "spline"]


class AutoregressiveStep(FlowStep):
    r"""\(z'_i = f(z_i; h_i(z_{<i}, c))\) with f monotone and h a masked network that reads the example's context c too.

    `affine` is \(f(z) = e^a z + m\), |a| < ln 1000, `spline` a monotone rational-quadratic spline. It is one pass, and
    \(\ln\det = \sum_i \ln f'\). The inverse finds z by passes of which each, from the first dimension on, settles at
    least one more: Z of them, or fewer where no gradient is asked for and one changes nothing any more. The order of
    the dimensions is from the last on where `is_reversed`. Parameters: c alone, and the step is near the identity at
    first because the network's last layer begins with small weights.

    References: Kingma et al. 2016, "Improving Variational Inference with Inverse Autoregressive Flow" (their gate
    \(\sigma(s) z + (1 - \sigma(s)) m\) can only shrink, and begins at a scale of 0.73 to 0.88: not the identity);
    Papamakarios et al. 2017, "Masked Autoregressive Flow for Density Estimation"; Durkan et al. 2019, "Neural Spline
    Flows".
    """

    most_examples = 300

    def __init__(
        self, latent_size: int, context_size: int, hidden_size: int, univariate: UnivariateName, *, is_reversed: bool
    ) -> None:
        super().__init__()
        self.num_strengths, self.num_parameters = 0, context_size
        order = torch.arange(latent_size)
        self.transform = MaskedAutoregressiveTransform(
            latent_size,
            context_size,
            order=order.flipud() if is_reversed else order,
            hidden_features=(hidden_size, hidden_size),
            activation=nn.ELU,
            **UNIVARIATE[univariate],
        )
        with torch.no_grad():
            for parameter in self.transform.hyper[-1].parameters():
                parameter.mul_(START)

    def forward(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """z' and the log determinant."""
        found, log_slopes = self._maps(z, parameters).call_and_ladj(z)
        return found, log_slopes.sum(-1)

    def inverse(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """The z whose image this is, and the log determinant there."""
        found = torch.zeros_like(z)
        for _ in range(z.shape[-1]):
            before, found = found, self._maps(found, parameters).inv(z)
            if not torch.is_grad_enabled() and _is_settled(found, before):
                break
        return found, self._maps(found, parameters).log_abs_det_jacobian(found, z).sum(-1)

    def _maps(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> MonotonicAffineTransform | MonotonicRQSTransform:
        """The map of each dimension, given those before it in z. Unlike their sum it takes a batch of none."""
        maps: MonotonicAffineTransform | MonotonicRQSTransform = (
            self.transform(parameters if self.num_parameters else None).meta(z).base
        )
        return maps


def _is_settled(now: Float[Tensor, "... Z"], before: Float[Tensor, "... Z"]) -> bool:
    return bool(((now - before).abs() <= 4 * torch.finfo(now.dtype).eps * (1 + now.abs())).all())


class InvertedStep(FlowStep):
    """A step run the other way: of an autoregressive one, whose density at any z is then one pass, and a draw Z."""

    def __init__(self, step: FlowStep) -> None:
        super().__init__()
        self.step = step
        self.num_strengths, self.num_parameters = step.num_strengths, step.num_parameters

    def forward(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """z' and the log determinant."""
        found, log_det = self.step.inverse(z, parameters)
        return found, -log_det

    def inverse(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """The z whose image this is, and the log determinant there."""
        found, log_det = self.step(z, parameters)
        return found, -log_det
