"""What the configs of all recurrent decoders share: sizes, dropouts and noise on the words that are read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import nn

from latent.bound import Constant, Schedule
from textvae.cells import CellName
from textvae.decoders import Output, RecurrentDecoder
from textvae.noise import Share, check_word_dropout


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Sizes and dropouts; the defaults are He et al. 2019's on short sentences. Noise is of training alone."""

    kind: str
    embedding_size: PositiveInt = 256
    hidden_size: PositiveInt = 256
    cell: CellName = "lstm"  # of encoder and decoder
    word_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of decoder inputs replaced by <unk>
    word_dropout_schedule: Schedule = field(default_factory=Constant)  # a factor on word_dropout
    expected_inputs: Share = 0.0  # share of decoder inputs replaced by the embedding that the decoder itself expects
    input_noise: NonNegativeFloat = 0.0  # standard deviation, on what the decoder reads in the place of words
    dropout_in: Share = 0.5  # of the decoder's embeddings
    dropout_out: Share = 0.5  # of the decoder's states before the output layer

    def __post_init__(self) -> None:
        check_word_dropout(self.word_dropout, self.word_dropout_schedule)

    def decoder(
        self, embedding: nn.Module | None, output: Callable[[int], Output], *, latent_size: int, skip: bool
    ) -> RecurrentDecoder:
        """The decoder that reads with `embedding` and scores with what `output` builds."""
        return RecurrentDecoder(
            embedding,
            output,
            latent_size=latent_size,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            cell=self.cell,
            word_dropout=self.word_dropout,
            word_dropout_schedule=self.word_dropout_schedule,
            expected_inputs=self.expected_inputs,
            input_noise=self.input_noise,
            dropout_in=self.dropout_in,
            dropout_out=self.dropout_out,
            skip=skip,
        )


def check_tie(tie_weights: bool, embedding_size: int, hidden_size: int) -> None:
    """Raise ValueError where the output layer, which reads states, cannot be the embedding."""
    if tie_weights and embedding_size != hidden_size:
        raise ValueError(f"tie_weights needs embedding_size ({embedding_size}) = hidden_size ({hidden_size})")
