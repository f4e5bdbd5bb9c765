"""The language-model baseline: the LSTM sentence VAE's decoder without z, which every VAE is held against."""

from dataclasses import dataclass
from typing import Any, Literal

from torch.distributions import Distribution

from corpora import TextBatch
from latent.bound import ModelConfig
from latent.distributions import standard_normal
from latent.distributions.priors import FixedPrior
from textvae.decoders import WordOutput, word_embedding
from textvae.likelihood import OfWords
from textvae.models.lstm import LstmVaeConfig
from textvae.models.recurrent import RecurrentConfig, check_tie
from textvae.models.sentence_model import SentenceDecoder, SentenceModel
from textvae.noise import WordDropout


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(RecurrentConfig, OfWords, ModelConfig):
    """The decoder of `kind: lstm`."""

    kind: Literal["lm"] = "lm"
    tie_weights: bool = LstmVaeConfig.tie_weights

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tie(self.tie_weights, self.embedding_size, self.hidden_size)

    @property
    def posterior_is_free(self) -> bool:
        """There is no z."""
        return False

    def build(self, num_ids: int) -> "LanguageModel":
        """The model for a tokenizer of `num_ids` ids."""
        embedding = word_embedding(num_ids, self.embedding_size)
        decoder = self.decoder(
            embedding,
            lambda num_read: WordOutput(num_ids, num_read, embedding if self.tie_weights else None),
            latent_size=0,
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
