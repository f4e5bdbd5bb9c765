"""p(x|z) of an image's D = C·H·W values, given what the decoder puts out for each of them."""

import math
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latent.distributions import at_least_float32

LikelihoodKind = Literal["bernoulli", "discretised_logistic", "gaussian"]
MeasuredLikelihood = LikelihoodKind | Literal["layers", "none"]  # none: nothing was trained by the likelihood

LEAST_LOG_SCALE = -5.0  # of a pixel's value between 0 and 1: below it a few exact values would have any density
CLIPPED_MEAN = 1e-3  # pixels that are always 0 in training get a finite logit

INSTEAD = "compare by KL, squared error and, with measure --full, the Fréchet distance"
NO_LIKELIHOOD = (
    "the loss of a VAE/GAN is no bound on log p(x) and trains no likelihood of pixels: there is no NLL, −ELBO or "
    f"reconstruction in nats, and gains are of E[x|z] taken for probabilities; {INSTEAD}"
)


def why_not_comparable(one: MeasuredLikelihood, other: MeasuredLikelihood) -> tuple[str, ...]:
    """Why two likelihoods of the same images may not be subtracted, where one of them is none: else nothing."""
    if "none" not in (one, other):
        return ()
    if one == other:
        return (f"neither has a likelihood; {INSTEAD}",)
    return (f"{'no likelihood' if one == 'none' else one} against {'none' if other == 'none' else other}; {INSTEAD}",)


@runtime_checkable
class Likelihood(Protocol):
    """The last step of a decoder: output `a` for each of D pixels, a pixel's value x between 0 and 1."""

    def log_prob(self, a: Float[Tensor, "S B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "S B"]:
        """log p(x|a) in nats, summed over the D values."""

    def mean(self, a: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """The expected value of each pixel."""

    def sample(self, a: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """A draw of each pixel."""

    def initial_bias(self, mean: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """The output that gives the training set's mean image: a decoder that begins there is epochs ahead."""


def floored(log_scale: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
    """The logarithm of a scale, above its floor, with a gradient that brings it back from near there."""
    return LEAST_LOG_SCALE + F.softplus(log_scale - LEAST_LOG_SCALE)


class Bernoulli(nn.Module):
    r"""\(\log p(x|a) = \sum_d x_d a_d - \ln(1 + e^{a_d})\), for pixels that are 0 or 1; `a` is the logit."""

    def __init__(self, num_values: int) -> None:
        super().__init__()

    def log_prob(self, a: Float[Tensor, "S B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "S B"]:
        """log p(x|a) in nats, summed over the D values."""
        a = at_least_float32(a)
        return (a * x).sum(-1) - F.softplus(a).sum(-1)

    def mean(self, a: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """The probability of a 1."""
        return torch.sigmoid(at_least_float32(a))

    def sample(self, a: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """0 or 1."""
        return torch.bernoulli(self.mean(a))

    def initial_bias(self, mean: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """The mean's logit."""
        return torch.logit(mean, CLIPPED_MEAN)


class Gaussian(nn.Module):
    r"""\(\mathcal N(x_d; a_d, \sigma_d^2)\) with a learned σ for each of the D values, not less than e⁻⁵.

    A density: its logarithm may be positive and is not to be compared with that of another likelihood.
    """

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((num_values,), -1.0))

    def log_prob(self, a: Float[Tensor, "S B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "S B"]:
        """log p(x|a) in nats, summed over the D values."""
        a = at_least_float32(a)
        log_scale = floored(self.log_scale)
        squared = ((x - a) * torch.exp(-log_scale)).square().sum(-1)
        return -0.5 * squared - log_scale.sum() - 0.5 * math.log(2 * math.pi) * x.shape[-1]

    def mean(self, a: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """`a` itself."""
        return at_least_float32(a)

    def sample(self, a: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """A normal draw."""
        a = at_least_float32(a)
        return a + torch.randn_like(a) * floored(self.log_scale).exp()

    def initial_bias(self, mean: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """The mean itself."""
        return mean


class DiscretisedLogistic(nn.Module):
    r"""The mass of a logistic between the bounds of x's level, of 256 that lie 1/255 apart:

    \[ p(x|a) = \prod_d \sigma\big(\tfrac{x_d + h - a_d}{s_d}\big) - \sigma\big(\tfrac{x_d - h - a_d}{s_d}\big),
       \quad h = \tfrac{1}{510}, \]
    where the first term is 1 for the highest level and the second 0 for the lowest, so that the 256 levels sum to 1.
    s is learned for each of the D values. Reference: Kingma et al. 2016, "Improved Variational Inference with Inverse
    Autoregressive Flow", appendix C; the form with its tails is Salimans et al. 2017's, "PixelCNN++", equation 2.
    """

    HALF = 1 / 510

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((num_values,), -2.0))

    def log_prob(self, a: Float[Tensor, "S B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "S B"]:
        """log p(x|a) in nats, summed over the D values."""
        a, precision = at_least_float32(a), 1 / self.scale
        upper, lower = (x + self.HALF - a) * precision, (x - self.HALF - a) * precision
        # ln(σ(u) − σ(l)) = ln σ(u) + ln σ(−l) + ln(1 − e^(l−u)): no difference of two numbers near 0 or near 1
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * self.HALF * precision))
        levels = torch.where(x < self.HALF, F.logsigmoid(upper), inside)
        return torch.where(x > 1 - self.HALF, F.logsigmoid(-lower), levels).sum(-1)

    @property
    def scale(self) -> Float[Tensor, " D"]:
        """s of each value."""
        return floored(self.log_scale).exp()

    def mean(self, a: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        r"""The mean of the logistic with its tails put at 0 and 1: \(\int_0^1 \sigma(\tfrac{a - t}{s})\, dt\).

        The sum over the 256 levels is this integral by the midpoint rule, to within 3·10⁻⁵ at any scale.
        """
        a, s = at_least_float32(a), self.scale
        return s * (F.softplus(a / s) - F.softplus((a - 1) / s))

    def sample(self, a: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """A draw, at one of the 256 levels."""
        a = at_least_float32(a)
        uniform = torch.rand_like(a).clamp(1e-6, 1 - 1e-6)
        drawn = a + torch.logit(uniform) * self.scale
        return (drawn.clamp(0, 1) * 255).round() / 255

    def initial_bias(self, mean: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """The location with that mean, its tails among it."""
        mean, s = mean.clamp(CLIPPED_MEAN, 1 - CLIPPED_MEAN), self.scale.detach()
        return s * ((mean / s).expm1().log() - (-((mean - 1) / s).expm1()).log())


LIKELIHOODS: dict[str, Callable[[int], Likelihood]] = {
    "bernoulli": Bernoulli,
    "discretised_logistic": DiscretisedLogistic,
    "gaussian": Gaussian,
}
