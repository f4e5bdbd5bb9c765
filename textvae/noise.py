"""Noise on words, in training alone: dropout of a decoder's inputs, deletion and masking of an encoder's."""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Int64
from pydantic import Field
from torch import Tensor, nn

from corpora import BOS, EOS, PAD, UNK
from latent.bound import Schedule

Share = Annotated[float, Field(ge=0, lt=1)]
ENDS = (0, 10**9)  # between them no schedule leaves 0 … 1 that is within it at both


class WordDropout(nn.Module):
    """Replace a share of a decoder's input words by `<unk>`, never `<s>` (Bowman et al. 2016, section 3.2).

    The share is `share` times the schedule's value at the step that `at_step` was last told: a function of the step
    alone, which no checkpoint has to hold.
    """

    def __init__(self, share: float, schedule: Schedule) -> None:
        super().__init__()
        self.share, self.schedule = share, schedule
        self.share_now: Tensor  # no number of Python's, for each of which a compiled graph would be made anew
        self.register_buffer("share_now", torch.zeros(()), persistent=False)
        self.at_step(0)

    def at_step(self, step: int) -> None:
        """Take the share of a step of training."""
        if self.share > 0.0:
            self.share_now.fill_(self.share * self.schedule(step))

    def forward(self, tokens: Int64[Tensor, "N T"]) -> Int64[Tensor, "N T"]:
        """The tokens, some of them replaced in training."""
        if not self.training or self.share == 0.0:
            return tokens
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.share_now
        return torch.where(dropped & (tokens != BOS), UNK, tokens)


@dataclass(frozen=True, kw_only=True)
class WordNoiseConfig:
    """What is done to the words that the encoder reads, in training."""

    deletion: Share = 0.0  # share of the words left out
    masking: Share = 0.0  # share of the words that are left, replaced by <unk>

    def build(self) -> "WordNoise":
        """The noise."""
        return WordNoise(deletion=self.deletion, masking=self.masking)


class WordNoise(nn.Module):
    """Leave out a share of the words, then replace a share of the rest by `<unk>`; `<s>` and `</s>` stay.

    Reference: Shen et al. 2020, "Educating Text Autoencoders: Latent Representation Guidance via Denoising".
    """

    def __init__(self, *, deletion: float, masking: float) -> None:
        super().__init__()
        self.deletion, self.masking = deletion, masking

    def forward(
        self, tokens: Int64[Tensor, "B L"], lengths: Int64[Tensor, " B"]
    ) -> tuple[Int64[Tensor, "B L"], Int64[Tensor, " B"]]:
        """Sentences and their lengths, `<s>` and `</s>` counted; in evaluation as they were."""
        if not self.training:
            return tokens, lengths
        is_word = (tokens != BOS) & (tokens != EOS) & (tokens != PAD)
        deleted = is_word & (torch.rand(tokens.shape, device=tokens.device) < self.deletion)
        masked = is_word & (torch.rand(tokens.shape, device=tokens.device) < self.masking)
        kept = torch.where(deleted, PAD, torch.where(masked, UNK, tokens))
        # a stable sort moves what was deleted behind what is left, whose order stays
        closed_up = kept.gather(1, (kept == PAD).byte().argsort(dim=1, stable=True))
        return closed_up, lengths - deleted.sum(1)


def check_word_dropout(word_dropout: float, schedule: Schedule) -> None:
    """Raise ValueError where the share leaves 0 … 1 at either end of its schedule."""
    shares = [word_dropout * schedule(step) for step in ENDS]
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError(
            f"word_dropout times word_dropout_schedule has to stay within 0 … 1, and goes from {shares[0]:g} to "
            f"{shares[1]:g}"
        )
