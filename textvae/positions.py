"""Where in a sentence z is worth something: the decoder's gain from its own z, by token position."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from corpora import TextBatch
from latent.measures import (
    Estimate,
    ShuffledGain,
    SplitTerms,
    evaluating,
    mean_estimate,
    prior_z,
    ratio_estimate,
    shuffle_cycle,
    shuffled_z,
)
from latent.measures.split import require_finite, restore_order
from textvae.models import SentenceModel

FEWEST_SENTENCES = 20  # behind a position that stands by itself
FIRST_POSITIONS = 3


@dataclass(frozen=True)
class PositionGain:
    """The gain at positions `first` to `last`, counted from 1, in nats per token, and the sentences that reach them."""

    first: int
    last: int
    num_sentences: int
    shuffled: Estimate
    prior: Estimate


@dataclass(frozen=True)
class GainByPosition:
    """How many nats the posterior's z is worth over another sentence's and over one of the prior: in all and by place.

    `first_share` is the share of the whole shuffled gain that falls on the first three positions, to be read beside
    their share of all tokens: far above it, z remembers how sentences begin and little else. It is None where the
    whole gain is too near 0 for a share of it to mean anything.
    """

    shuffled: Estimate
    prior: Estimate
    positions: tuple[PositionGain, ...]
    first_share: Estimate | None
    first_share_of_tokens: float


def gain_by_position(
    model: SentenceModel, batches: Sequence[TextBatch], split: SplitTerms, device: torch.device, seed: int = 0
) -> GainByPosition:
    r"""\(\mathbb{E}[\log p(x_t|x_{<t}, z) - \log p(x_t|x_{<t}, z')]\) over the sentences that have a t-th scored token.

    z is the posterior's draw that `split` holds; z' is another sentence's, by the random cycle of
    `latent.measures.shuffled_gain` with the same seed, or a draw of the prior. Summed over a sentence, the gain over
    shuffled z is that measure's. Raises ValueError for a split of one sentence.
    """
    all_z = split.z, shuffled_z(split, seed), prior_z(model, batches, device, seed)
    width = max(batch.mask.shape[1] for batch in batches)
    parts: list[Float[Tensor, "3 B T"]] = []
    with evaluating(model, seed):
        for batch in batches:
            on_device = batch.to(device)
            found = model.token_log_likelihood(torch.stack([z[batch.indices].to(device) for z in all_z]), on_device)
            parts.append(F.pad(found, (0, width - found.shape[-1])).cpu())
    order = restore_order(batches)
    own, other, drawn = torch.cat(parts, 1)[:, order]
    num_tokens = torch.cat([batch.lengths for batch in batches])[order] - 1
    require_finite(torch.isfinite(own + other + drawn).all(1), "log p(x|z) at a z that is not the sentence's own")
    return summarise_gains(own - other, own - drawn, num_tokens, shuffle_cycle(len(split), seed))


def summarise_gains(
    shuffled: Float[Tensor, "N T"],
    prior: Float[Tensor, "N T"],
    num_tokens: Int64[Tensor, " N"],
    cycle: Int64[Tensor, " N"],
) -> GainByPosition:
    """The means of gains that are 0 from `num_tokens` on, with their intervals over sentences.

    In the order of `cycle` each sentence was given the z of the one before it.

    Positions that fewer than 20 sentences have are pooled with the last that more have. A pool's gain is a mean over
    its tokens, its interval that of a ratio over sentences.
    """
    shuffled, prior = shuffled.double(), prior.double()
    total, num_first = shuffled.sum(1), num_tokens.clamp(max=FIRST_POSITIONS)
    reached = (num_tokens[:, None] > torch.arange(shuffled.shape[1])).sum(0)  # falls with the position
    num_alone = max(0, int((reached >= FEWEST_SENTENCES).sum()) - 1)
    bounds = [(position, position + 1) for position in range(num_alone)] + [(num_alone, shuffled.shape[1])]
    whole = ShuffledGain(total, cycle).estimate
    # Cochran's rule for a ratio: its denominator should be known to a tenth or so; a quarter is as far as we go.
    is_defined = whole.low > whole.value / 2
    return GainByPosition(
        shuffled=whole,
        prior=mean_estimate(prior.sum(1)),
        positions=tuple(_position_gain(shuffled, prior, num_tokens, *between) for between in bounds),
        first_share=ratio_estimate(shuffled[:, :FIRST_POSITIONS].sum(1), total) if is_defined else None,
        first_share_of_tokens=(num_first.sum() / num_tokens.sum()).item(),
    )


def _position_gain(
    shuffled: Float[Tensor, "N T"], prior: Float[Tensor, "N T"], num_tokens: Int64[Tensor, " N"], start: int, end: int
) -> PositionGain:
    reaching = num_tokens > start
    tokens = num_tokens[reaching].clamp(max=end) - start
    return PositionGain(
        first=start + 1,
        last=end,
        num_sentences=int(reaching.sum()),
        shuffled=ratio_estimate(shuffled[reaching, start:end].sum(1), tokens.double()),
        prior=ratio_estimate(prior[reaching, start:end].sum(1), tokens.double()),
    )
