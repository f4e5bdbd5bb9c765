"""One pass over a split: each example's posterior, a draw of z and the terms of the bound, in the split's own order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import Batch, BatchT, LatentModel
from latent.distributions import change_rows, concatenate

NUM_NAMED = 5  # of the examples that an error is about


@dataclass(frozen=True)
class SplitTerms:
    """What a model says of a whole split of N examples: nats per example, one draw of z each, on the CPU.

    The posteriors are where the model is.
    """

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

    def checked(self) -> "SplitTerms":
        """The same. Raises NotFiniteError where the bound of an example is not finite."""
        require_finite(torch.isfinite(self.elbo), "the bound on log p(x)")
        return self

    def change_rows(self, change: Callable[[Tensor], Tensor]) -> "SplitTerms":
        """What `change` makes of the rows of each part, one for each example."""
        return SplitTerms(
            posterior=change_rows(self.posterior, change),
            z=change(self.z),
            reconstruction=change(self.reconstruction),
            kl=change(self.kl),
            kl_per_dimension=None if self.kl_per_dimension is None else change(self.kl_per_dimension),
            sampled_kl=change(self.sampled_kl),
        )


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
    with evaluating(model, seed):
        found = joined([encode(model, batch.to(device)) for batch in batches])
    order = restore_order(batches)
    return found.change_rows(lambda rows: rows[order.to(rows.device)]).checked()


def encode(model: LatentModel[BatchT], batch: BatchT) -> SplitTerms:
    """Run the model over a batch: what it says of each example, where the batch is and in its order."""
    q = model.posterior(batch)
    terms = model.terms(q, batch)
    sampled_kl = (terms.log_posterior - terms.log_prior)[0]
    return SplitTerms(q, terms.z[0], -terms.log_likelihood[0], terms.kl, terms.kl_per_dimension, sampled_kl)


def log_likelihood_at(
    model: LatentModel[BatchT],
    batches: Sequence[BatchT],
    z: Float[Tensor, "N Z"],
    device: torch.device,
    seed: int = 0,
) -> Float[Tensor, " N"]:
    """log p(x|z) of each example at a given z, in nats; both in the split's own order."""
    with evaluating(model, seed):
        found = [score(model, batch.to(device), z).cpu() for batch in batches]
    return torch.cat(found)[restore_order(batches)]


def score(model: LatentModel[BatchT], batch: BatchT, z: Float[Tensor, "N Z"]) -> Float[Tensor, " B"]:
    """log p(x|z) of a batch's examples, where the batch is and in its order; z is in the split's."""
    own_z = z[batch.indices.to(z.device)].to(batch.indices.device)
    return model.log_likelihood(own_z.unsqueeze(0), batch)[0]


def restore_order(batches: Sequence[Batch]) -> Int64[Tensor, " N"]:
    """The permutation that puts what was computed batch after batch back into the split's order."""
    return torch.argsort(torch.cat([batch.indices.cpu() for batch in batches]))


def joined(parts: Sequence[SplitTerms]) -> SplitTerms:
    """Parts of a split, one after the other. Raises ValueError when there are none."""
    if not parts:
        raise ValueError("nothing to measure: the split has no examples")
    per_dimension = [part.kl_per_dimension for part in parts if part.kl_per_dimension is not None]
    return SplitTerms(
        posterior=concatenate(*(part.posterior for part in parts)),
        z=torch.cat([part.z for part in parts]).cpu(),
        reconstruction=torch.cat([part.reconstruction for part in parts]).cpu(),
        kl=torch.cat([part.kl for part in parts]).cpu(),
        kl_per_dimension=torch.cat(per_dimension).cpu() if per_dimension else None,
        sampled_kl=torch.cat([part.sampled_kl for part in parts]).cpu(),
    )
