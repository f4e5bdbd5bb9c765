"""How many words a decoder finds that is told all words before: by the highest logit or the nearest vector."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from corpora import TextBatch
from latent.measures import evaluating
from latent.measures.split import restore_order
from textvae.models import SentenceModel


def retrieved_words(
    model: SentenceModel, batches: Sequence[TextBatch], z: Float[Tensor, "N Z"], device: torch.device, seed: int = 0
) -> Float[Tensor, " N"]:
    """How many of each sentence's scored tokens (words and `</s>`) score highest at their place.

    The decoder is given z and the true words before. The batches hold each of the N sentences once; they and z are in
    the split's own order. A word that has no vector of its own is never found.
    """
    hits: list[Tensor] = []
    with evaluating(model, seed):
        for batch in (batch.to(device) for batch in batches):
            found = model.next_words(z[batch.indices].to(device), batch.tokens)
            hits.append(((found == batch.targets) & batch.mask).sum(1).cpu())
    return torch.cat(hits)[restore_order(batches)].double()
