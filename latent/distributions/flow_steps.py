"""Steps of a flow that are invertible by construction: planar, radial and orthogonal Sylvester."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latent.distributions.flows import FlowStep

MOST_FLAT = 0.999  # of the slope that a planar or Sylvester step may take away; softplus and tanh do reach 1 in float32
NUM_NEWTON = 100  # iterations at most, each Newton's or half of the interval; a handful is the rule


class PlanarStep(FlowStep):
    r"""\(z' = z + \hat u \tanh(w \cdot z + b)\), with log-determinant \(\ln(1 + \hat u \cdot w (1 - \tanh^2))\).

    It has an inverse where \(\hat u \cdot w > -1\), hence \(\hat u = u + (m(w \cdot u) - w \cdot u) w / \|w\|^2\). The
    usual \(m(x) = \operatorname{softplus}(x) - 1\) has neither u = 0 nor w → 0 for the identity: m(0) is −0.31, which
    divided by ‖w‖ has no bound. Here \(m(x) = \operatorname{softplus}(x + \ln(e^k - 1)) - k\), with m(0) = 0: the
    identity is in the family, and û is below 2‖u‖ as w → 0. With k = 0.999 for 1 a step shrinks z by a factor of 1,000
    at most, which single precision can invert.

    The inverse is one monotone equation of a scalar, \(t + c \tanh(t + b) = w \cdot z'\) with \(c = \hat u \cdot w\),
    solved by numbers. Parameters: u (the strength), w, b. Reference: Rezende & Mohamed 2015, equation 10 and A.1.
    """

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.sizes = [latent_size, latent_size, 1]
        self.num_strengths, self.num_parameters = latent_size, sum(self.sizes)

    def forward(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """z' and the log determinant."""
        u, w, b, slope = self._constrained(parameters)
        bent = torch.tanh((w * z).sum(-1, keepdim=True) + b)
        return z + u * bent, torch.log1p(slope * (1 - bent.square()))[..., 0]

    def inverse(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """The z whose image this is, and the log determinant there."""
        u, w, b, slope = self._constrained(parameters)
        along = solve_bent((w * z).sum(-1, keepdim=True), slope, torch.ones_like(slope), b)
        bent = torch.tanh(along + b)
        return z - u * bent, torch.log1p(slope * (1 - bent.square()))[..., 0]

    def _constrained(self, parameters: Float[Tensor, "... P"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """û, w, b and û·w > −1."""
        u, w, b = parameters.split(self.sizes, -1)
        raw = (w * u).sum(-1, keepdim=True)
        slope = F.softplus(raw + math.log(math.expm1(MOST_FLAT))) - MOST_FLAT
        square = w.square().sum(-1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
        return u + (slope - raw) / square * w, w, b, slope


class RadialStep(FlowStep):
    r"""\(z' = z + \hat\beta (z - c) / (\alpha + r)\) with r = ‖z − c‖, α > 0 and \(\hat\beta > -\alpha\), so that

    \[ \ln\det = (Z - 1) \ln(1 + \hat\beta h) + \ln(1 + \hat\beta \alpha h^2), \quad h = 1 / (\alpha + r). \]
    \(\hat\beta = \operatorname{softplus}(\beta + \ln(e^\alpha - 1)) - \alpha\) is 0 at β = 0, the identity. The inverse
    is the root of \(r^2 + (\alpha + \hat\beta - r') r - \alpha r' = 0\) that is not negative. Parameters: β (the
    strength), α before a softplus, c. Reference: Rezende & Mohamed 2015, equation 14 and A.2.
    """

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.sizes = [1, 1, latent_size]
        self.num_strengths, self.num_parameters = 1, sum(self.sizes)

    def forward(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """z' and the log determinant."""
        strength, reach, centre = self._constrained(parameters)
        offset = z - centre
        radius = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
        return z + strength / (reach + radius) * offset, _radial_log_det(strength, reach, radius, z.shape[-1])

    def inverse(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """The z whose image this is, and the log determinant there."""
        strength, reach, centre = self._constrained(parameters)
        offset = z - centre
        image = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
        half, product = 0.5 * (image - reach - strength), reach * image
        root = (half.square() + product).sqrt()
        # of the two forms of the root the one whose terms have one sign
        radius = torch.where(half > 0, half + root, product / (root - half.clamp(max=0.0)))
        found = centre + offset / (1 + strength / (reach + radius))
        return found, _radial_log_det(strength, reach, radius, z.shape[-1])

    def _constrained(self, parameters: Float[Tensor, "... P"]) -> tuple[Tensor, Tensor, Tensor]:
        """β̂ > −α, α > 0 and the centre."""
        raw, raw_reach, centre = parameters.split(self.sizes, -1)
        reach = F.softplus(raw_reach)
        return F.softplus(raw + reach + torch.log(-torch.expm1(-reach))) - reach, reach, centre


def _radial_log_det(
    strength: Float[Tensor, "... 1"], reach: Float[Tensor, "... 1"], radius: Float[Tensor, "... 1"], latent_size: int
) -> Float[Tensor, "..."]:
    h = 1 / (reach + radius)
    found = (latent_size - 1) * torch.log1p(strength * h) + torch.log1p(strength * reach * h.square())
    return found[..., 0]


class SylvesterStep(FlowStep):
    r"""\(z' = z + Q R \tanh(\tilde R Q^\top z + b)\), Q with M orthonormal columns, R and R̃ upper triangular:

    \[ \ln\det = \sum_i \ln(1 + R_{ii} \tilde R_{ii} (1 - \tanh_i^2)). \]
    The diagonals are 0.999 tanh(·), so that each factor is positive. Q is a product of M Householder reflections: every
    Q with M orthonormal columns is one, up to the signs of the columns. The inverse is found within the span of Q,
    column by column from the last, each a monotone equation of a scalar that is solved by numbers. Parameters: R (the
    strength), R̃, b, the reflections. Reference: van den Berg et al. 2018, "Sylvester Normalizing Flows for Variational
    Inference", equation 10, theorem 2 and section 3 (orthogonal and Householder).
    """

    def __init__(self, latent_size: int, num_columns: int) -> None:
        super().__init__()
        self.latent_size, self.num_columns = latent_size, num_columns
        upper, below = num_columns * (num_columns + 1) // 2, latent_size * num_columns
        self.sizes = [upper, upper, num_columns, below - upper]
        self.num_strengths, self.num_parameters = upper, sum(self.sizes)
        self.upper: Tensor
        self.below: Tensor
        self.register_buffer("upper", torch.triu_indices(num_columns, num_columns), persistent=False)
        self.register_buffer("below", torch.tril_indices(latent_size, num_columns, -1), persistent=False)

    def forward(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """z' and the log determinant."""
        outer, inner, b, columns = self._constrained(parameters)
        within = torch.einsum("...zm,...z->...m", columns, z)
        bent = torch.tanh(torch.einsum("...ij,...j->...i", inner, within) + b)
        change = torch.einsum("...ij,...j->...i", outer, bent)
        return z + torch.einsum("...zm,...m->...z", columns, change), _sylvester_log_det(outer, inner, bent)

    def inverse(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """The z whose image this is, and the log determinant there."""
        outer, inner, b, columns = self._constrained(parameters)
        image = torch.einsum("...zm,...z->...m", columns, z)
        within: list[Tensor] = []  # of the columns from i + 1 on
        bent: list[Tensor] = []
        for i in reversed(range(self.num_columns)):
            later = range(i + 1, self.num_columns)
            known = sum((outer[..., i, j] * bent[j - i - 1] for j in later), torch.zeros_like(image[..., i]))
            offset = sum((inner[..., i, j] * within[j - i - 1] for j in later), b[..., i])
            within.insert(0, solve_bent(image[..., i] - known, outer[..., i, i], inner[..., i, i], offset))
            bent.insert(0, torch.tanh(inner[..., i, i] * within[0] + offset))
        turned = torch.stack(bent, -1)
        change = torch.einsum("...ij,...j->...i", outer, turned)
        return z - torch.einsum("...zm,...m->...z", columns, change), _sylvester_log_det(outer, inner, turned)

    def _constrained(self, parameters: Float[Tensor, "... P"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """R, R̃, b and Q."""
        raw_outer, raw_inner, b, reflections = parameters.split(self.sizes, -1)
        vectors = parameters.new_zeros(*parameters.shape[:-1], self.latent_size, self.num_columns)
        vectors[..., self.below[0], self.below[1]] = reflections
        columns = torch.linalg.householder_product(vectors, 2 / (1 + vectors.square().sum(-2)))
        return self._triangle(raw_outer), self._triangle(raw_inner), b, columns

    def _triangle(self, raw: Float[Tensor, "... N"]) -> Float[Tensor, "... M M"]:
        found = raw.new_zeros(*raw.shape[:-1], self.num_columns, self.num_columns)
        found[..., self.upper[0], self.upper[1]] = raw
        diagonal = found.diagonal(dim1=-2, dim2=-1)
        return found + torch.diag_embed(MOST_FLAT * torch.tanh(diagonal) - diagonal)


def _sylvester_log_det(
    outer: Float[Tensor, "... M M"], inner: Float[Tensor, "... M M"], bent: Float[Tensor, "... M"]
) -> Float[Tensor, "..."]:
    slopes = outer.diagonal(dim1=-2, dim2=-1) * inner.diagonal(dim1=-2, dim2=-1)
    return torch.log1p(slopes * (1 - bent.square())).sum(-1)


def solve_bent(
    y: Float[Tensor, "..."], c: Float[Tensor, "..."], d: Float[Tensor, "..."], e: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    r"""The t with \(t + c \tanh(d t + e) = y\), unique where cd > −1, by Newton's method in a shrinking interval.

    It has gradients: one more step of Newton's from the solution, its slope held fixed, is the implicit derivative.
    """
    with torch.no_grad():
        low, high = y - c.abs(), y + c.abs()
        rounding = 4 * torch.finfo(y.dtype).eps * (1 + y.abs() + c.abs())
        t = y - c * torch.tanh(d * y + e)
        for _ in range(NUM_NEWTON):
            residual, slope = _residual_and_slope(t, y, c, d, e)
            if bool((residual.abs() <= rounding).all()):
                break
            low, high = torch.where(residual < 0, t, low), torch.where(residual < 0, high, t)
            proposed = t - residual / slope
            is_short = (proposed - t).abs() < 0.5 * (high - low)  # else Newton's method may go to and fro
            t = torch.where(is_short | (residual == 0), proposed, 0.5 * (low + high))
    residual, slope = _residual_and_slope(t, y, c, d, e)
    return t - residual / slope.detach()


def _residual_and_slope(t: Tensor, y: Tensor, c: Tensor, d: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    bent = torch.tanh(d * t + e)
    return t + c * bent - y, 1 + c * d * (1 - bent.square())
