r"""Steps down a loss by some inputs, and the exact gradient through them: K steps of stochastic variational inference.

\[ v_{k+1} = m v_k - g(\lambda_k, \theta), \quad \lambda_{k+1} = \lambda_k + \alpha v_{k+1}, \quad
   g = \mathrm{clip}(\nabla_\lambda L(\lambda_k, \theta)), \quad v_0 = 0 \]
Backwards from \(\bar\lambda_K\), with \(\bar v = 0\), for k = K − 1 … 0 (Kim et al. 2018, "Semi-Amortized Variational
Autoencoders", algorithm 1, here with momentum):
\[ \bar v \mathrel{+}= \alpha \bar\lambda, \quad \bar\theta \mathrel{-}= (\partial_\theta g)^\top \bar v, \quad
   \bar\lambda \mathrel{-}= (\partial_\lambda g)^\top \bar v, \quad \bar v \mathrel{\times}= m. \]
Where nothing is clipped the two products are with the Hessian of L. Both are exact, by differentiating g once more; the
paper takes finite differences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from latent.machine.kernels import twice_differentiable
from latent.training.seeding import Noise

Parts = tuple[Tensor, ...]  # λ, or what goes with it: each of B examples and any more dimensions
InnerLoss = Callable[[Parts], Float[Tensor, ""]]  # L(λ, θ), summed over the examples
ROUNDING = 1e-6  # added to a norm that is divided by, as torch's own clipping does


@dataclass(frozen=True, kw_only=True)
class InnerSteps:
    """K, α, m, and the norm at which g is clipped, each example's and each part's by itself."""

    num_steps: int
    learning_rate: float
    momentum: float
    max_gradient_norm: float

    def down(self, loss: InnerLoss, start: Parts, parameters: Sequence[Tensor]) -> tuple[Parts, Float[Tensor, ""]]:
        """λ_K, through which gradients go to λ_0 and to the `parameters` θ; and L(λ_0), without gradient.

        A step draws random numbers of torch's and, in the backward pass, is repeated with the same. That pass holds one
        step at a time, so that the memory does not grow with K.
        """
        *found, first = _Descent.apply(self, loss, len(start), *start, *parameters)
        return tuple(found), first

    def gradient(self, loss: InnerLoss, at: Parts, *, create_graph: bool) -> tuple[Parts, Float[Tensor, ""]]:
        """Clipped g at λ, a leaf, and L there."""
        with torch.enable_grad(), twice_differentiable():
            value = loss(at)
            found = torch.autograd.grad(value, at, create_graph=create_graph)
            return tuple(self._clipped(each) for each in found), value.detach()

    def _clipped(self, gradient: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1).view(-1, *[1] * (gradient.dim() - 1))
        clipped: Tensor = gradient * (self.max_gradient_norm / (norm + ROUNDING)).clamp(max=1.0)
        return clipped


class _Descent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, steps: InnerSteps, loss: InnerLoss, num_parts: int, *tensors: Tensor) -> Parts:
        at: Parts = tuple(each.detach() for each in tensors[:num_parts])
        velocity: Parts = tuple(torch.zeros_like(each) for each in at)
        ctx.steps, ctx.loss, ctx.parameters = steps, loss, tensors[num_parts:]
        ctx.path = []
        values = []
        for _ in range(steps.num_steps):
            at = _leaves(at)
            ctx.path.append((at, Noise(at[0].device)))
            gradient, value = steps.gradient(loss, at, create_graph=False)
            velocity = tuple(steps.momentum * v - g for v, g in zip(velocity, gradient, strict=True))
            at = tuple(x.detach() + steps.learning_rate * v for x, v in zip(at, velocity, strict=True))
            values.append(value)
        ctx.mark_non_differentiable(values[0])
        return *at, values[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        steps: InnerSteps = ctx.steps
        of_at = list(gradients[:-1])
        of_velocity = [torch.zeros_like(each) for each in of_at]
        of_parameters: list[Tensor | None] = [None] * len(ctx.parameters)
        for at, noise in reversed(ctx.path):
            of_velocity = [v + steps.learning_rate * x for v, x in zip(of_velocity, of_at, strict=True)]
            gradient, _ = noise.again(lambda at=at: steps.gradient(ctx.loss, at, create_graph=True))
            with twice_differentiable():
                found = torch.autograd.grad(gradient, (*at, *ctx.parameters), of_velocity, allow_unused=True)
            of_at = [x if by is None else x - by for x, by in zip(of_at, found[: len(at)], strict=True)]
            of_parameters = [_less(p, by) for p, by in zip(of_parameters, found[len(at) :], strict=True)]
            of_velocity = [steps.momentum * v for v in of_velocity]
        return None, None, None, *of_at, *of_parameters


def _leaves(parts: Parts) -> Parts:
    return tuple(each.detach().requires_grad_() for each in parts)


def _less(total: Tensor | None, by: Tensor | None) -> Tensor | None:
    if total is None or by is None:
        return total if by is None else -by
    return total - by
