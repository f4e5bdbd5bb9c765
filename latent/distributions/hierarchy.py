"""Two distributions in a row, the second given by a draw of the first: more than one layer of latent variables."""

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
    log_prob,
    pairwise_log_prob,
)
from latent.distributions.held import call
from latent.distributions.points import NUM_POINTS, moments_of_mixture, symmetric_points


class Hierarchy(Distribution):
    r"""\(q(a, b) = q(a)\, q(b|a)\) as one distribution of the vector [a, b], or [b, a] unless `first_leads`.

    `first` is q(a), a product over dimensions with batch shape B; `rest` is a module from rows of a to q(b|a), each row
    by itself. Where the hierarchy is made without gradients, or `is_frozen`, the parameters of `rest` get none from its
    density, while the path through a stays: they are held fixed, not q(b|a).

    The moments of b are means over the same 64 points of a's noise for every row, Sobol's with their mirror images:
    exact where E[b|a] is linear, the same at each call, and without noise of their own between the rows. With draws of
    each row's own a b that follows a's noise would seem to tell of x, by 1/64 of its variance, where 0.01 makes an
    active unit.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name for what it checks of the parameters
    has_rsample = True

    def __init__(
        self,
        first: Distribution,
        rest: nn.Module,
        rest_size: int,
        *,
        first_leads: bool = True,
        is_frozen: bool = False,
    ) -> None:
        self.first = first
        self.rest = rest
        self.rest_size = rest_size
        self.first_leads = first_leads
        self.is_frozen = is_frozen or not torch.is_grad_enabled()
        event_shape = torch.Size([first.event_shape[0] + rest_size])
        super().__init__(first.batch_shape, event_shape, validate_args=False)

    def over(self, first: Distribution, *, is_frozen: bool) -> "Hierarchy":
        """The same hierarchy over another first part."""
        return Hierarchy(first, self.rest, self.rest_size, first_leads=self.first_leads, is_frozen=is_frozen)

    def given(self, a: Float[Tensor, "*S B A"]) -> Distribution:
        """q(b|a), its batch dimension a's S·B rows."""
        found: Distribution = call(self.rest, a.flatten(0, -2), is_frozen=self.is_frozen)
        return found

    def split(self, z: Float[Tensor, "*S B Z"]) -> tuple[Float[Tensor, "*S B A"], Float[Tensor, "*S B R"]]:
        """A and b out of z."""
        first_size = z.shape[-1] - self.rest_size
        if self.first_leads:
            return z[..., :first_size], z[..., first_size:]
        return z[..., self.rest_size :], z[..., : self.rest_size]

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of z, with gradients through both parts."""
        return self._drawn(torch.Size(sample_shape))[0]

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Float[Tensor, "*S B Z"], Float[Tensor, "*S B"]]:
        """Draws of z, with gradients, and log q at them in nats: q(b|a) is found once for both."""
        z, given = self._drawn(sample_shape)
        a, b = self.split(z)
        return z, log_prob(self.first, a) + log_prob(given, b.flatten(0, -2)).reshape(b.shape[:-1])

    def _drawn(self, sample_shape: torch.Size) -> tuple[Float[Tensor, "*S B Z"], Distribution]:
        a = self.first.rsample(sample_shape)
        given = self.given(a)
        return self._joined(a, given.rsample().reshape(*a.shape[:-1], self.rest_size)), given

    def log_prob(self, value: Float[Tensor, "*S B Z"]) -> Float[Tensor, "*S B"]:
        """log q(a) + log q(b|a) in nats."""
        a, b = self.split(value)
        return log_prob(self.first, a) + self.log_prob_given(a, b)

    def log_prob_given(self, a: Float[Tensor, "*S B A"], b: Float[Tensor, "*S B R"]) -> Float[Tensor, "*S B"]:
        """log q(b|a) in nats."""
        return log_prob(self.given(a), b.flatten(0, -2)).reshape(b.shape[:-1])

    @property
    def mean(self) -> Float[Tensor, "B Z"]:
        """E[a] and E[b] = E[E[b|a]]."""
        return self._joined(self.first.mean, self._moments_of_rest[0])

    @property
    def variance(self) -> Float[Tensor, "B Z"]:
        """Var[a] and Var[b] = E[Var[b|a]] + Var[E[b|a]]."""
        return self._joined(self.first.variance, self._moments_of_rest[1])

    @cached_property
    def _moments_of_rest(self) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
        """A point at a time, so that a whole split fits into the memory."""
        base = factors(self.first)
        assert base is not None
        points = symmetric_points(NUM_POINTS, self.first.mean)
        given = (self.given(base.icdf(point)) for point in points)
        return moments_of_mixture((one.mean, one.variance) for one in given)

    def _joined(self, a: Float[Tensor, "*S B A"], b: Float[Tensor, "*S B R"]) -> Float[Tensor, "*S B Z"]:
        return torch.cat([a, b] if self.first_leads else [b, a], -1)


@concatenate.register
def _(first: Hierarchy, *others: Hierarchy) -> Distribution:
    assert all(q.rest is first.rest for q in others)
    return first.over(concatenate(first.first, *(q.first for q in others)), is_frozen=first.is_frozen)


@change_rows.register
def _(q: Hierarchy, change: Change) -> Distribution:
    return q.over(change_rows(q.first, change), is_frozen=q.is_frozen)


@device_of.register
def _(q: Hierarchy) -> torch.device:
    return device_of(q.first)


@detach.register
def _(q: Hierarchy) -> Distribution:
    return q.over(detach(q.first), is_frozen=True)


@pairwise_log_prob.register
def _(q: Hierarchy, z: Float[Tensor, "M Z"]) -> Float[Tensor, "M N"]:
    a, b = q.split(z)
    own = q.log_prob_given(a, b).double()  # the same whichever q_j gave a: a column
    return pairwise_log_prob(q.first, a) + own.unsqueeze(1)
