"""The recurrent sentence VAE of Bowman et al. 2016, "Generating Sentences from a Continuous Space".

Its LSTM is as in He et al. 2019; every other part is an option.
"""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import PositiveInt

from latent.bound import WithPosterior
from latent.distributions import NormalHeadConfig, PosteriorConfig, PriorConfig, prior_for
from textvae.bag_of_words import BagOfWords
from textvae.decoders import WordOutput, word_embedding
from textvae.encoders import PoolingName, RecurrentEncoder
from textvae.likelihood import OfWords
from textvae.models.recurrent import RecurrentConfig, check_tie
from textvae.models.sentence_vae import SentenceVae
from textvae.noise import Share, WordNoiseConfig


@dataclass(frozen=True, kw_only=True)
class LstmVaeConfig(RecurrentConfig, OfWords, WithPosterior):
    """Its encoder, latent variable and output layer, beside what all recurrent decoders share."""

    kind: Literal["lstm"] = "lstm"
    latent_size: PositiveInt = 32
    bidirectional: bool = False  # of the encoder
    pooling: PoolingName = "last"  # of the encoder's states
    encoder_noise: WordNoiseConfig | None = None  # on the words that the encoder reads, in training
    history: bool = True  # whether the decoder reads the words before; without, z alone
    encoder_dropout: Share = 0.0  # of the encoder's embeddings
    tie_weights: bool = False  # the decoder's output layer is its embedding
    skip: bool = False  # the decoder's output layer is given z too
    bag_of_words: bool = False  # z predicts the words without their order too, for objective.auxiliary_weight
    posterior: PosteriorConfig = field(default_factory=NormalHeadConfig)
    prior: PriorConfig | None = None  # the posterior's own: N(0, I), or the uniform sphere

    def __post_init__(self) -> None:
        super().__post_init__()
        prior_for(self.posterior, self.prior, self.latent_size)
        reads = (self.word_dropout, self.expected_inputs, self.input_noise, self.tie_weights)
        if not self.history and any(reads):
            raise ValueError(
                "history=false leaves no words to read: it needs word_dropout=0, expected_inputs=0, input_noise=0 and "
                "tie_weights=false"
            )
        if self.tie_weights and self.skip:
            raise ValueError("tie_weights needs skip=false: an embedding has no columns for z")
        check_tie(self.tie_weights, self.embedding_size, self.hidden_size)

    def build(self, num_ids: int) -> SentenceVae:
        """The model for a tokenizer of `num_ids` ids."""
        encoder = RecurrentEncoder(
            num_ids,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            cell=self.cell,
            bidirectional=self.bidirectional,
            pooling=self.pooling,
            dropout=self.encoder_dropout,
        )
        head = self.posterior.build(encoder.num_features, self.latent_size)
        embedding = word_embedding(num_ids, self.embedding_size) if self.history else None
        decoder = self.decoder(
            embedding,
            lambda num_read: WordOutput(num_ids, num_read, embedding if self.tie_weights else None),
            latent_size=self.latent_size,
            skip=self.skip,
        )
        prior = prior_for(self.posterior, self.prior, self.latent_size)
        return SentenceVae(
            encoder,
            head,
            decoder,
            prior,
            latent_size=self.latent_size,
            embedding_size=self.embedding_size,
            word_dropout=decoder.word_dropout,
            encoder_noise=None if self.encoder_noise is None else self.encoder_noise.build(),
            # after all else, whose initial weights are those of a model without it
            bag_of_words=BagOfWords(num_ids, self.latent_size) if self.bag_of_words else None,
        )
