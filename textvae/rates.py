"""What a sentence's NLL is per word and per character: perplexity and bits per character, each with its interval."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latent.measures import Estimate, exponential, ratio_estimate


def perplexity(nll: Float[Tensor, " N"], num_tokens: Float[Tensor, " N"]) -> Estimate:
    """exp(Σ nll / Σ tokens), words and `</s>` counted; its interval is the exponential of the ratio's."""
    return exponential(ratio_estimate(nll, num_tokens))


def bits_per_character(nll: Float[Tensor, " N"], texts: Sequence[str]) -> Estimate:
    r"""\(\sum_i \mathrm{nll}_i / (\ln 2 \sum_i (|x_i| + 1))\): characters are code points, and the 1 is the line's end.

    `nll` is in nats per sentence. `texts` are what was scored, so an unknown word is the five characters of `<unk>`:
    runs of different tokenizers may be compared where they have no unknown words, and only there.
    """
    num_characters = torch.tensor([len(text) + 1 for text in texts], dtype=torch.float64)
    return ratio_estimate(nll.double() / math.log(2), num_characters)
