"""Normalising flows: a distribution pushed through K invertible steps, whose parameters each example brings along."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from latent.distributions.families import (
    Change,
    change_rows,
    concatenate,
    detach,
    device_of,
    factors,
    free_parameters,
    log_prob,
    pairwise_log_prob,
    pairwise_most,
    with_parameters,
)
from latent.distributions.held import call
from latent.distributions.points import NUM_POINTS, symmetric_points

PAIRS_AT_ONCE = 16_384  # of a draw and a distribution: some 30 MB for a z of 50 and eight columns


class FlowStep(nn.Module, ABC):
    """One invertible map of z, given each example's own parameters.

    The first `num_strengths` of its `num_parameters` are the step's strength: where they are 0 it is the identity.
    `most_examples` is the number of examples of which the density of every draw under every posterior can be afforded.
    """

    num_parameters: int
    num_strengths: int
    most_examples: int = 1_000

    @abstractmethod
    def forward(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """z' and the log of the absolute determinant of its Jacobian."""

    @abstractmethod
    def inverse(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"]
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """The z whose image this is, and the log determinant of `forward` there; both have gradients."""


class Flow(nn.Module):
    """Steps in a row; an example's parameters are those of the first step, then those of the second, and so on."""

    def __init__(self, steps: Sequence[FlowStep]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.sizes = [step.num_parameters for step in steps]
        self.most_examples = min(step.most_examples for step in steps)

    def forward(
        self, z: Float[Tensor, "... Z"], parameters: Float[Tensor, "... P"], *, backwards: bool = False
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        """z at the other end, and the log determinant of the way forward. Never below float32."""
        steps = list(zip(self.steps, parameters.split(self.sizes, -1), strict=True))
        log_det = z.new_zeros(())
        with torch.autocast(z.device.type, enabled=False):
            for step, own in reversed(steps) if backwards else steps:
                assert isinstance(step, FlowStep)
                z, change = step.inverse(z, own) if backwards else step(z, own)
                log_det = log_det + change
        return z, log_det


class FlowDistribution(Distribution):
    r"""\(z = f_K \circ \dots \circ f_1(z_0)\) with \(z_0 \sim q_0\): batch shape B, event shape Z.

    \[ \log q(z) = \log q_0(z_0) - \sum_k \log |\det \partial f_k / \partial z_{k-1}| \]
    A draw comes with its density in one pass; the density of another z needs the inverse of each step. `base` is q₀, a
    product over dimensions. Where a flow is made without gradients, or `is_frozen`, the weights of its steps get none.

    Neither moment has a closed form: they are means over the same 64 points of the base's noise for every example,
    without noise of their own between examples, as the variance of E[z|x] over x asks for (`Hierarchy` has the reason).
    The image of the base's mean would be another thing. Reference: Rezende & Mohamed 2015, "Variational Inference with
    Normalizing Flows", equation 13.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name for what it checks of the parameters
    has_rsample = True

    def __init__(
        self, base: Distribution, flow: Flow, parameters: Float[Tensor, "B P"], *, is_frozen: bool = False
    ) -> None:
        self.base = base
        self.flow = flow
        self.parameters = parameters
        self.is_frozen = is_frozen or not torch.is_grad_enabled()
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def over(self, base: Distribution, parameters: Float[Tensor, "M P"], *, is_frozen: bool) -> "FlowDistribution":
        """The same flow of another base by other parameters."""
        return FlowDistribution(base, self.flow, parameters, is_frozen=is_frozen)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of z, with gradients."""
        return self.rsample_and_log_prob(torch.Size(sample_shape))[0]

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Float[Tensor, "*S B Z"], Float[Tensor, "*S B"]]:
        """Draws of z, with gradients, and log q at them in nats, without an inverse."""
        start = self.base.rsample(sample_shape)
        z, log_det = self._moved(start)
        return z, log_prob(self.base, start) - log_det

    def log_prob(self, value: Float[Tensor, "... Z"]) -> Float[Tensor, "..."]:
        """Log q in nats at any z, by the inverse of each step."""
        start, log_det = self._moved(value, backwards=True)
        return log_prob(self.base, start) - log_det

    def _moved(
        self, z: Float[Tensor, "... Z"], *, backwards: bool = False
    ) -> tuple[Float[Tensor, "... Z"], Float[Tensor, "..."]]:
        found: tuple[Tensor, Tensor] = call(
            self.flow, z, self.parameters, is_frozen=self.is_frozen, backwards=backwards
        )
        return found

    @property
    def mean(self) -> Float[Tensor, "B Z"]:
        """E[z]."""
        return self._moments[0]

    @property
    def variance(self) -> Float[Tensor, "B Z"]:
        """Var[z] of each dimension."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """A point at a time, so that a whole split fits into the memory."""
        base = factors(self.base)
        assert base is not None
        centre = self._moved(base.mean)[0]  # squares of what is small do not cancel
        total = square = torch.zeros_like(centre)
        for point in symmetric_points(NUM_POINTS, base.mean):
            offset = self._moved(base.icdf(point))[0] - centre
            total, square = total + offset, square + offset.square()
        mean = total / NUM_POINTS
        return centre + mean, square / NUM_POINTS - mean.square()


@concatenate.register
def _(first: FlowDistribution, *others: FlowDistribution) -> Distribution:
    assert all(q.flow is first.flow for q in others)
    base = concatenate(first.base, *(q.base for q in others))
    return first.over(base, torch.cat([q.parameters for q in (first, *others)]), is_frozen=first.is_frozen)


@change_rows.register
def _(q: FlowDistribution, change: Change) -> Distribution:
    return q.over(change_rows(q.base, change), change(q.parameters), is_frozen=q.is_frozen)


@device_of.register
def _(q: FlowDistribution) -> torch.device:
    return device_of(q.base)


@detach.register
def _(q: FlowDistribution) -> Distribution:
    return q.over(detach(q.base), q.parameters.detach(), is_frozen=True)


@free_parameters.register
def _(q: FlowDistribution) -> tuple[Tensor, ...]:
    return *free_parameters(q.base), q.parameters


@with_parameters.register
def _(q: FlowDistribution, parameters: tuple[Tensor, ...]) -> Distribution:
    *of_base, own = parameters
    return q.over(with_parameters(q.base, tuple(of_base)), own, is_frozen=q.is_frozen)


@pairwise_most.register
def _(q: FlowDistribution) -> int:
    return q.flow.most_examples


@pairwise_log_prob.register
def _(q: FlowDistribution, z: Float[Tensor, "M Z"]) -> Float[Tensor, "M N"]:
    rows = max(1, PAIRS_AT_ONCE // max(1, len(q.parameters)))
    return torch.cat([q.log_prob(some.unsqueeze(1)) for some in z.split(rows)]).double()
