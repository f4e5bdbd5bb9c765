r"""The modified Bessel function of the first kind, \(I_\nu(x)\), by its logarithm, with gradients."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

NUM_SERIES_TERMS = 96  # the largest term is near the (x / 2)-th: here at most the 20th
NEAR_ORIGIN = 40.0  # below this √(ν² + x²) the power series, above it the uniform expansion


def _debye_coefficients(num_terms: int) -> list[list[float]]:
    r"""Coefficients of u_k(t) / t^k in powers of t², k from 0 to `num_terms` − 1: \(u_0 = 1\) and
    \(u_{k+1}(t) = \frac12 t^2(1-t^2) u_k'(t) + \frac18 \int_0^t (1-5s^2) u_k(s)\, ds\) (DLMF 10.41.9).
    """
    found = [[1.0]]
    for k in range(num_terms - 1):
        following = [0.0] * (k + 2)
        for power, coefficient in enumerate(found[k]):
            degree = k + 2 * power  # of t in u_k
            following[power] += coefficient * (degree / 2 + 1 / (8 * (degree + 1)))
            following[power + 1] -= coefficient * (degree / 2 + 5 / (8 * (degree + 3)))
        found.append(following)
    return found


DEBYE = _debye_coefficients(8)


def log_scaled_bessel(order: float, x: Float64[Tensor, "*B"]) -> Float64[Tensor, "*B"]:
    r"""\(\ln I_\nu(x) - x\) for an order ν ≥ 0 and positive x; differentiable as often as one likes.

    Close to the origin the power series, all of whose terms are positive,
    \[ I_\nu(x) = (x/2)^\nu \sum_k \frac{(x^2/4)^k}{k!\, \Gamma(\nu + k + 1)}, \]
    beyond it Debye's expansion, uniform in x and ν where \(r = \sqrt{\nu^2 + x^2}\) is large: with t = ν / r
    \[ I_\nu(x) \approx \frac{e^{r}}{\sqrt{2\pi r}} \Big(\frac{x}{\nu + r}\Big)^\nu \sum_k \frac{u_k(t)}{\nu^k}. \]
    Each is off by less than 1e−11 where it is used.

    Reference: NIST Digital Library of Mathematical Functions, 10.25.2 and 10.41.3.
    """
    radius = (order**2 + x.square()).sqrt()
    is_near = radius < NEAR_ORIGIN
    # each branch gets arguments of its own region alone: a gradient of 0 · ∞ from the other would be nan
    near = _by_series(order, torch.where(is_near, x, 1.0))
    far = _by_debye(order, torch.where(is_near, NEAR_ORIGIN, x))
    return torch.where(is_near, near, far)


def _by_series(order: float, x: Float64[Tensor, "*B"]) -> Float64[Tensor, "*B"]:
    k = torch.arange(NUM_SERIES_TERMS, dtype=x.dtype, device=x.device)
    log_half = (x / 2).log()
    log_terms = 2 * k * log_half.unsqueeze(-1) - torch.lgamma(k + 1) - torch.lgamma(k + order + 1)
    return order * log_half + torch.logsumexp(log_terms, -1) - x


def _by_debye(order: float, x: Float64[Tensor, "*B"]) -> Float64[Tensor, "*B"]:
    radius = (order**2 + x.square()).sqrt()
    t_squared = (order / radius).square()
    total = torch.zeros_like(x)
    for k, coefficients in enumerate(DEBYE):
        polynomial = torch.zeros_like(x)
        for coefficient in reversed(coefficients):
            polynomial = polynomial * t_squared + coefficient
        total = total + polynomial / radius**k  # u_k(t) / ν^k = (u_k(t) / t^k) / r^k, which has a limit at ν = 0
    exponent = order**2 / (radius + x) + order * (x / (order + radius)).log()  # less x
    return exponent - 0.5 * (2 * math.pi * radius).log() + total.log()
