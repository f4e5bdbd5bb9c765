"""The LSTM sentence VAE of Bowman et al. 2016, "Generating Sentences from a Continuous Space", as in He et al. 2019."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from latent.distributions import NormalHeadConfig, PosteriorConfig, PriorConfig, prior_for
from textvae.decoders import LstmDecoder, WordOutput, word_embedding
from textvae.encoders import LstmEncoder
from textvae.likelihood import OfWords
from textvae.models.sentence_vae import SentenceVae

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class LstmVaeConfig(OfWords):
    """Sizes and dropouts; the defaults are He et al. 2019's on short sentences."""

    kind: Literal["lstm"] = "lstm"
    latent_size: PositiveInt = 32
    embedding_size: PositiveInt = 256
    hidden_size: PositiveInt = 256
    bidirectional: bool = False  # of the encoder
    word_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of decoder inputs replaced by <unk>, in training
    dropout_in: Share = 0.5  # of the decoder's embeddings
    dropout_out: Share = 0.5  # of the decoder's states before the output layer
    encoder_dropout: Share = 0.0  # of the encoder's embeddings
    tie_weights: bool = False  # the decoder's output layer is its embedding
    skip: bool = False  # the decoder's output layer is given z too
    posterior: PosteriorConfig = field(default_factory=NormalHeadConfig)
    prior: PriorConfig | None = None  # the posterior's own: N(0, I), or the uniform sphere

    def __post_init__(self) -> None:
        prior_for(self.posterior, self.prior, self.latent_size)
        if self.tie_weights and self.skip:
            raise ValueError("tie_weights needs skip=false: an embedding has no columns for z")
        if self.tie_weights and self.embedding_size != self.hidden_size:
            raise ValueError(
                f"tie_weights needs embedding_size ({self.embedding_size}) = hidden_size ({self.hidden_size})"
            )

    def build(self, num_ids: int) -> SentenceVae:
        """The model for a tokenizer of `num_ids` ids."""
        encoder = LstmEncoder(
            num_ids,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            bidirectional=self.bidirectional,
            dropout=self.encoder_dropout,
        )
        head = self.posterior.build(encoder.num_features, self.latent_size)
        embedding = word_embedding(num_ids, self.embedding_size)
        decoder = LstmDecoder(
            embedding,
            lambda num_read: WordOutput(num_ids, num_read, embedding if self.tie_weights else None),
            latent_size=self.latent_size,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            word_dropout=self.word_dropout,
            dropout_in=self.dropout_in,
            dropout_out=self.dropout_out,
            skip=self.skip,
        )
        prior = prior_for(self.posterior, self.prior, self.latent_size)
        return SentenceVae(
            encoder, head, decoder, prior, latent_size=self.latent_size, embedding_size=self.embedding_size
        )
