"""One pass over a split: each example's posterior, a draw of z and the terms of the bound, in the split's own order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from latent.bound import Batch, BatchT, ElboTerms, LatentModel
from latent.distributions import concatenate, take


@dataclass(frozen=True)
class SplitTerms:
    """What a model says of a whole split of N examples: nats per example, one draw of z each, on the CPU."""

    posterior: Distribution
    z: Float[Tensor, "N Z"]
    reconstruction: Float[Tensor, " N"]
    kl: Float[Tensor, " N"]
    kl_per_dimension: Float[Tensor, "N Z"] | None

    @property
    def elbo(self) -> Float[Tensor, " N"]:
        """log p(x|z) − KL of each example, at one draw of z."""
        return -self.reconstruction - self.kl

    def __len__(self) -> int:
        return len(self.z)


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

    Raises ValueError when they hold none.
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
    per_dimension = [t.kl_per_dimension for t in terms if t.kl_per_dimension is not None]
    return SplitTerms(
        posterior=take(concatenate(*posteriors), order.to(device)),
        z=torch.cat([t.z[0] for t in terms]).cpu()[order],
        reconstruction=-_joined([t.log_likelihood[0] for t in terms])[order],
        kl=_joined([t.kl for t in terms])[order],
        kl_per_dimension=_joined(per_dimension)[order] if per_dimension else None,
    )


def restore_order(batches: Sequence[Batch]) -> Int64[Tensor, " N"]:
    """The permutation that puts what was computed batch after batch back into the split's order."""
    return torch.argsort(torch.cat([batch.indices.cpu() for batch in batches]))


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).cpu()
