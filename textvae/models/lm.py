"""The language-model baseline: the LSTM sentence VAE's decoder without z, which every VAE is held against."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt
from torch.distributions import Distribution

from corpora import TextBatch
from latent.bound import Constant, Schedule
from latent.distributions import standard_normal
from latent.distributions.priors import FixedPrior
from textvae.cells import CellName
from textvae.decoders import RecurrentDecoder, WordOutput, word_embedding
from textvae.likelihood import OfWords
from textvae.models.lstm import LstmVaeConfig, check_tie
from textvae.models.sentence_model import SentenceDecoder, SentenceModel
from textvae.noise import Share, WordDropout, check_word_dropout


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(OfWords):
    """Sizes and dropouts of the decoder, named and by default as those of `kind: lstm`."""

    kind: Literal["lm"] = "lm"
    embedding_size: PositiveInt = LstmVaeConfig.embedding_size
    hidden_size: PositiveInt = LstmVaeConfig.hidden_size
    cell: CellName = LstmVaeConfig.cell
    word_dropout: Annotated[float, Field(ge=0, le=1)] = LstmVaeConfig.word_dropout
    word_dropout_schedule: Schedule = field(default_factory=Constant)
    input_noise: NonNegativeFloat = LstmVaeConfig.input_noise
    dropout_in: Share = LstmVaeConfig.dropout_in
    dropout_out: Share = LstmVaeConfig.dropout_out
    tie_weights: bool = LstmVaeConfig.tie_weights

    def __post_init__(self) -> None:
        check_word_dropout(self.word_dropout, self.word_dropout_schedule)
        check_tie(self.tie_weights, self.embedding_size, self.hidden_size)

    def build(self, num_ids: int) -> "LanguageModel":
        """The model for a tokenizer of `num_ids` ids."""
        embedding = word_embedding(num_ids, self.embedding_size)
        decoder = RecurrentDecoder(
            embedding,
            lambda num_read: WordOutput(num_ids, num_read, embedding if self.tie_weights else None),
            latent_size=0,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            cell=self.cell,
            word_dropout=self.word_dropout,
            word_dropout_schedule=self.word_dropout_schedule,
            input_noise=self.input_noise,
            dropout_in=self.dropout_in,
            dropout_out=self.dropout_out,
            skip=False,
        )
        return LanguageModel(decoder, decoder.word_dropout)


class LanguageModel(SentenceModel):
    r"""p(x) as a decoder of a z without dimensions: \(\log p(x) = \log p(x|z)\), for the one z that there is.

    Posterior and prior are the same, so that the KL is 0 and the bound exact with a single draw. Any decoder that takes
    a z of size 0 will do.
    """

    latent_size = 0

    def __init__(self, decoder: SentenceDecoder[Any], word_dropout: WordDropout | None) -> None:
        super().__init__()
        self.decoder = decoder
        self.word_dropout = word_dropout
        self.nothing = FixedPrior(standard_normal, self.latent_size)

    def posterior(self, batch: TextBatch) -> Distribution:
        """The prior: batch shape B, event shape 0."""
        return self.prior(batch)

    def prior(self, batch: TextBatch) -> Distribution:
        """The one distribution over no dimensions: batch shape B, event shape 0."""
        p: Distribution = self.nothing(len(batch))
        return p
