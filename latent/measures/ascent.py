"""Steps upwards on the bound of each example by itself, by its own posterior's parameters: all of a batch at once."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import BatchT, LatentModel
from latent.distributions import with_parameters

NOT_FREE = "a posterior that an example's own parameters are not all of, or that is held to a rule of its head"


def climb(
    model: LatentModel[BatchT],
    batch: BatchT,
    q: Distribution,
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    num_steps: int,
    num_draws: int,
) -> Float[Tensor, " B"]:
    """Take the steps, and return the mean bound of them, in nats.

    `parameters` are the leaves that the optimizer moves: `free_parameters` of members of q's family. An example's
    gradient is of its own bound alone. Nothing else gets a gradient.
    """
    total = parameters[0].new_zeros(len(batch))
    for _ in range(num_steps):
        with torch.enable_grad():
            terms = model.terms(with_parameters(q, tuple(parameters)), batch, num_draws)
            gradients = torch.autograd.grad(-terms.elbo.sum(), list(parameters))
        for each, gradient in zip(parameters, gradients, strict=True):
            each.grad = gradient
        optimizer.step()
        total += terms.elbo.detach()
    return total / num_steps


class NaturalGradient(torch.optim.Optimizer):
    r"""Natural-gradient steps of diagonal normals by their \((\mu, \ln\sigma)\), each coordinate's by itself.

    The natural gradient by natural parameters \(\lambda = (\mu/\sigma^2, -1/2\sigma^2)\) is the plain one by the mean
    parameters \(m = (\mu, \mu^2 + \sigma^2)\). In \(\lambda \leftarrow \lambda + \rho \nabla_m L\) the chain rule,
    with \(\partial_{\sigma^2} L = \partial_{\ln\sigma} L / 2\sigma^2\), leaves
    \[ \sigma^{-2} \leftarrow \sigma^{-2} (1 - \rho\, \partial_{\ln\sigma} L), \qquad
       \mu \leftarrow \mu + \rho\, \sigma^2_\text{new}\, \partial_\mu L. \]
    Of a conjugate model \(\rho = 1\) sets each \(\sigma^{-2}\) to its optimum \(M_{jj}\), and each \(\mu_j\) to its own
    given the others: both in one step where M, the exact posterior's precision, is diagonal. Where it is not, \(\mu\)
    comes nearer if \(\rho\) times the greatest eigenvalue of \(\mathrm{diag}(M)^{-1} M\) is below 2.

    A precision must stay positive, and with \(x = \rho\, \partial_{\ln\sigma} L\) the factor \(1 - x\) need not,
    where the log-density is convex or a gradient noisy. Where x > 0 it is \(1 - x + x^2/2\), a geodesic's to second
    order: ½ or more, so that a variance at most doubles, and from a q that is too narrow takes several steps.
    Merely held at ½, variances would grow by the noise far from the optimum, the steps of μ with them, and all
    would run away.

    References: Hoffman et al. 2013, "Stochastic Variational Inference", section 2; Khan & Lin 2017,
    "Conjugate-Computation Variational Inference"; Lin et al. 2020, "Handling the Positive-Definite Constraint in the
    Bayesian Learning Rule".
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        super().__init__(list(parameters), {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step down the gradients of −L."""
        (group,) = self.param_groups
        mean, log_scale = group["params"]
        x = -group["lr"] * log_scale.grad
        log_scale -= 0.5 * (1 - x + 0.5 * x.clamp(min=0).square()).log()
        mean -= group["lr"] * (2 * log_scale).exp() * mean.grad
