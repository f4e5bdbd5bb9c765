"""The LSTM sentence VAE of Bowman et al. 2016, "Generating Sentences from a Continuous Space", as in He et al. 2019."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.distributions import Distribution

from corpora import TextBatch
from latent.bound import LatentModel
from latent.distributions import NormalHeadConfig, PosteriorConfig, PriorConfig, prior_for
from textvae.decoders import LstmDecoder
from textvae.decoding import Decoding, decode
from textvae.encoders import LstmEncoder

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class LstmVaeConfig:
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

    def build(self, num_ids: int) -> "LstmVae":
        """The model for a tokenizer of `num_ids` ids."""
        return LstmVae(
            num_ids,
            latent_size=self.latent_size,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            bidirectional=self.bidirectional,
            word_dropout=self.word_dropout,
            dropout_in=self.dropout_in,
            dropout_out=self.dropout_out,
            encoder_dropout=self.encoder_dropout,
            tie_weights=self.tie_weights,
            skip=self.skip,
            posterior=self.posterior,
            prior=prior_for(self.posterior, self.prior, self.latent_size),
        )


class LstmVae(LatentModel[TextBatch]):
    """q(z|x) from an LSTM's last state, p(z) = N(0, I) or another prior, p(x|z) an LSTM language model given z."""

    def __init__(
        self,
        num_ids: int,
        *,
        latent_size: int,
        embedding_size: int,
        hidden_size: int,
        bidirectional: bool,
        word_dropout: float,
        dropout_in: float,
        dropout_out: float,
        encoder_dropout: float,
        tie_weights: bool,
        skip: bool,
        posterior: PosteriorConfig,
        prior: PriorConfig,
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.encoder = LstmEncoder(
            num_ids,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            bidirectional=bidirectional,
            dropout=encoder_dropout,
        )
        self.head = posterior.build(self.encoder.num_features, latent_size)
        self.decoder = LstmDecoder(
            num_ids,
            latent_size=latent_size,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            word_dropout=word_dropout,
            dropout_in=dropout_in,
            dropout_out=dropout_out,
            tie_weights=tie_weights,
            skip=skip,
        )
        self.latent_prior = prior.build(latent_size, embedding_size, self._posterior_of)

    def posterior(self, batch: TextBatch) -> Distribution:
        """q(z|x): batch shape B, event shape Z."""
        q: Distribution = self.head(self.encoder(batch.tokens, batch.lengths))
        return q

    def prior(self, batch: TextBatch) -> Distribution:
        """p(z), the same for every sentence: batch shape B, event shape Z."""
        p: Distribution = self.latent_prior(len(batch))
        return p

    def _posterior_of(self, sequences: Float[Tensor, "K L E"]) -> Distribution:
        """q of sequences of vectors in the place of embeddings."""
        q: Distribution = self.head(self.encoder.read(sequences))
        return q

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: TextBatch) -> Float[Tensor, "S B"]:
        """log p(x|z) in nats: the sum over the words and `</s>` of each sentence."""
        found = self.decoder.log_likelihood(*_repeated(z, batch))
        return found.view(len(z), len(batch))

    def token_log_likelihood(self, z: Float[Tensor, "S B Z"], batch: TextBatch) -> Float[Tensor, "S B T"]:
        """log p(x_t | x_<t, z) in nats at each scored position, 0 at padding: what `log_likelihood` sums."""
        found = self.decoder.token_log_likelihood(*_repeated(z, batch))
        return found.view(len(z), *batch.mask.shape)

    def decode(
        self, z: Float[Tensor, "N Z"], decoding: Decoding, *, max_length: int, generator: torch.Generator | None = None
    ) -> Int64[Tensor, "N T"]:
        """Sentences for N latent vectors, all at once: ids without `<s>`, ended by `</s>`, padded.

        A z that no draw can be, such as the mean of draws from a sphere or a point between two, is moved to the nearest
        that can.
        """
        return decode(self.decoder, self.head.nearest(z), decoding, max_length=max_length, generator=generator)


def _repeated(
    z: Float[Tensor, "S B Z"], batch: TextBatch
) -> tuple[Float[Tensor, "N Z"], Int64[Tensor, "N L"], Bool[Tensor, "N T"]]:
    """The N = S·B rows that the decoder scores: z, tokens and mask of each draw of each sentence."""
    return z.flatten(0, 1), batch.tokens.repeat(len(z), 1), batch.mask.repeat(len(z), 1)
