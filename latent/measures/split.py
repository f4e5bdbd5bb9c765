"""One pass over a split: each example's posterior, a draw of z and the terms of the bound, in the split's own order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import Batch, BatchT, ElboTerms, LatentModel
from latent.distributions import concatenate, take

NUM_NAMED = 5  # of the examples that an error is about


@dataclass(frozen=True)
class SplitTerms:
    """What a model says of a whole split of N examples: nats per example, one draw of z each, on the CPU."""

    posterior: Distribution
    z: Float[Tensor, "N Z"]
    reconstruction: Float[Tensor, " N"]
    kl: Float[Tensor, " N"]
    kl_per_dimension: Float[Tensor, "N Z"] | None
    sampled_kl: Float[Tensor, " N"]  # log q(z|x) − log p(z) at the draw, whether or not `kl` is in closed form

    @property
    def elbo(self) -> Float[Tensor, " N"]:
        """log p(x|z) − KL of each example, at one draw of z."""
        return -self.reconstruction - self.kl

    def __len__(self) -> int:
        return len(self.z)


class NotFiniteError(ValueError):
    """A figure is −inf, +inf or NaN for some examples, which no mean may hide. `indices` are their places, from 0."""

    def __init__(self, what: str, indices: tuple[int, ...], num_examples: int) -> None:
        self.indices = indices
        named = ", ".join(map(str, indices[:NUM_NAMED])) + (" …" if len(indices) > NUM_NAMED else "")
        super().__init__(
            f"{what} is not finite for {len(indices)} of {num_examples} examples (counted from 0: {named}): "
            "the model gives them no probability; train with a lower learning rate or leave them out"
        )


def require_finite(is_finite: Bool[Tensor, " N"], what: str) -> None:
    """Raise NotFiniteError unless all N examples of a split are finite."""
    if not is_finite.all():
        raise NotFiniteError(what, tuple((~is_finite).nonzero()[:, 0].tolist()), len(is_finite))


@contextmanager
def evaluating(model: torch.nn.Module, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients, and random numbers that are a function of `seed`; the caller's are left alone."""
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            yield
    finally:
        model.train(was_training)


def encode_split(
    model: LatentModel[BatchT], batches: Sequence[BatchT], device: torch.device, seed: int = 0
) -> SplitTerms:
    """Run the model once over the batches, which together hold each example of a split once.

    Raises ValueError when they hold none, and NotFiniteError where the bound of an example is not finite.
    """
    if not batches:
        raise ValueError("nothing to measure: the split has no examples")
    posteriors: list[Distribution] = []
    terms: list[ElboTerms] = []
    with evaluating(model, seed):
        for batch in (batch.to(device) for batch in batches):
            posteriors.append(model.posterior(batch))
            terms.append(model.terms(posteriors[-1], batch))
    order = restore_order(batches)
    elbo = _joined([t.log_likelihood[0] - t.kl for t in terms])[order]
    require_finite(torch.isfinite(elbo), "the bound on log p(x)")
    per_dimension = [t.kl_per_dimension for t in terms if t.kl_per_dimension is not None]
    return SplitTerms(
        posterior=take(concatenate(*posteriors), order.to(device)),
        z=torch.cat([t.z[0] for t in terms]).cpu()[order],
        reconstruction=-_joined([t.log_likelihood[0] for t in terms])[order],
        kl=_joined([t.kl for t in terms])[order],
        kl_per_dimension=_joined(per_dimension)[order] if per_dimension else None,
        sampled_kl=_joined([(t.log_posterior - t.log_prior)[0] for t in terms])[order],
    )


def log_likelihood_at(
    model: LatentModel[BatchT],
    batches: Sequence[BatchT],
    z: Float[Tensor, "N Z"],
    device: torch.device,
    seed: int = 0,
) -> Float[Tensor, " N"]:
    """log p(x|z) of each example at a given z, in nats; both in the split's own order."""
    with evaluating(model, seed):
        found = [
            model.log_likelihood(z[batch.indices].to(device).unsqueeze(0), batch.to(device))[0].cpu()
            for batch in batches
        ]
    return torch.cat(found)[restore_order(batches)]


def restore_order(batches: Sequence[Batch]) -> Int64[Tensor, " N"]:
    """The permutation that puts what was computed batch after batch back into the split's order."""
    return torch.argsort(torch.cat([batch.indices.cpu() for batch in batches]))


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).cpu()
