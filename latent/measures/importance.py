r"""The importance-weighted bound on log p(x): \(L_K = \mathbb{E} \log \frac1K \sum_k w_k\) (Burda et al. 2016)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent.bound import BatchT, LatentModel
from latent.measures.split import evaluating, restore_order


@dataclass(frozen=True)
class ImportanceWeighted:
    """The importance-weighted NLL of each of N examples, in nats, and the effective sample size behind it."""

    nll: Float[Tensor, " N"]
    effective_sample_size: Float[Tensor, " N"]
    num_samples: int


def importance_weighted(
    model: LatentModel[BatchT],
    batches: Sequence[BatchT],
    device: torch.device,
    num_samples: int,
    *,
    rows_at_once: int = 1024,
    seed: int = 0,
) -> ImportanceWeighted:
    """−log (1/K Σ_k w_k) of each example, K = `num_samples` draws; the encoder runs once per example.

    `rows_at_once` bounds draws times examples in one call of the decoder, hence the memory.
    Raises ValueError for K < 1.
    """
    if num_samples < 1:
        raise ValueError(f"the number of importance samples must be at least 1 (got {num_samples})")
    with evaluating(model, seed):
        parts = [_log_sums(model, batch.to(device), num_samples, rows_at_once) for batch in batches]
    order = restore_order(batches)
    log_sum = torch.cat([first for first, _ in parts]).cpu()[order]
    log_sum_of_squares = torch.cat([second for _, second in parts]).cpu()[order]
    return ImportanceWeighted(
        nll=math.log(num_samples) - log_sum,
        effective_sample_size=(2 * log_sum - log_sum_of_squares).exp(),
        num_samples=num_samples,
    )


def _log_sums(
    model: LatentModel[BatchT], batch: BatchT, num_samples: int, rows_at_once: int
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """log Σ w and log Σ w² over K draws, a chunk of draws at a time."""
    q = model.posterior(batch)
    at_once = max(1, rows_at_once // len(batch))
    chunks = [min(at_once, num_samples - done) for done in range(0, num_samples, at_once)]
    log_weights = [model.terms(q, batch, chunk).log_weight.double() for chunk in chunks]
    sums = [(torch.logsumexp(w, 0), torch.logsumexp(2 * w, 0)) for w in log_weights]
    return (
        torch.logsumexp(torch.stack([first for first, _ in sums]), 0),
        torch.logsumexp(torch.stack([second for _, second in sums]), 0),
    )
