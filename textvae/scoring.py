"""What every decoder of words does with its scores, and with its inputs in training."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from corpora import BOS, UNK


class ScoringDecoder(nn.Module, ABC):
    """A decoder that scores the marked tokens of a batch in one list: here they become sentences, or positions."""

    @abstractmethod
    def scored_log_prob(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], mask: Bool[Tensor, "N T-1"]
    ) -> Float[Tensor, " M"]:
        """log p(x_t | x_<t, z) in nats of what `mask` marks among `tokens[:, 1:]`, one sentence after the other."""

    def log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], mask: Bool[Tensor, "N T-1"]
    ) -> Float[Tensor, " N"]:
        """log p(x|z) in nats: the sum over the words and `</s>`, which `mask` marks among `tokens[:, 1:]`."""
        log_prob = self.scored_log_prob(z, tokens, mask)
        row = torch.arange(len(z), device=z.device).repeat_interleave(mask.sum(1))
        return log_prob.new_zeros(len(z)).index_add(0, row, log_prob)

    def token_log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], mask: Bool[Tensor, "N T-1"]
    ) -> Float[Tensor, "N T-1"]:
        """log p(x_t | x_<t, z) in nats at each position that `mask` marks, 0 elsewhere: what `log_likelihood` sums."""
        log_prob = self.scored_log_prob(z, tokens, mask)
        return log_prob.new_zeros(mask.shape).masked_scatter(mask, log_prob)


class WordDropout(nn.Module):
    """Replace a share of the input words by `<unk>`, in training only and never `<s>` (Bowman et al. 2016)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, tokens: Int64[Tensor, "N T"]) -> Int64[Tensor, "N T"]:
        """The decoder's inputs, some of them unknown."""
        if not self.training or self.share == 0.0:
            return tokens
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.share
        return torch.where(dropped & (tokens != BOS), UNK, tokens)
