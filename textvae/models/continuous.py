"""The LSTM sentence VAE whose decoder predicts word vectors, as in Kumar & Tsvetkov 2019 (textvae/vectors.py)."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt

from corpora import PpmiSpace, Space, Splits
from latent.bound import WithPosterior
from latent.distributions import NormalHeadConfig, PosteriorConfig, PriorConfig, prior_for
from textvae.encoders import RecurrentEncoder
from textvae.likelihood import Given, Likelihood
from textvae.models.recurrent import RecurrentConfig
from textvae.models.sentence_vae import SentenceVae
from textvae.noise import Share
from textvae.vectors import VectorLoss, VectorOutput, VonMisesFisherLoss, WordSpace


@dataclass(frozen=True, kw_only=True)
class ContinuousVaeConfig(RecurrentConfig, WithPosterior):
    """The decoder of `kind: lstm`, which here reads and predicts the vectors of a fixed space."""

    kind: Literal["continuous"] = "continuous"
    space: Space = field(default_factory=PpmiSpace)
    loss: VectorLoss = field(default_factory=VonMisesFisherLoss)
    latent_size: PositiveInt = 32
    embedding_size: Annotated[int, Field(ge=2)] = 128  # of the space's vectors, and of the encoder's own
    bidirectional: bool = False  # of the encoder
    encoder_dropout: Share = 0.0  # of the encoder's embeddings
    skip: bool = False  # the decoder's output layer is given z too
    posterior: PosteriorConfig = field(default_factory=NormalHeadConfig)
    prior: PriorConfig | None = None  # the posterior's own: N(0, I), or the uniform sphere

    given: ClassVar[tuple[str, ...]] = ("decoder.embedding.vectors", "decoder.embedding.is_known")

    def __post_init__(self) -> None:
        super().__post_init__()
        prior_for(self.posterior, self.prior, self.latent_size)

    @property
    def likelihood(self) -> Likelihood:
        """Of vectors or of nothing, as the loss is."""
        return self.loss.likelihood

    def check(self) -> None:
        """Read the file of the space, if it is one. Raises ValueError for what is no such file."""
        self.space.check(self.embedding_size)

    def check_length(self, max_length: int) -> None:
        """Sentences of any length can be scored and written."""

    def read_given(self, splits: Splits) -> Given:
        """The vectors of the corpus' ids. Raises ValueError where there are none."""
        found = self.space.vectors(splits, self.embedding_size)
        tensors = (torch.from_numpy(found.vectors), torch.from_numpy(found.is_known))
        return Given(dict(zip(self.given, tensors, strict=True)), found.notes)

    def build(self, num_ids: int) -> SentenceVae:
        """The model for a tokenizer of `num_ids` ids, with random vectors until it is given the space's."""
        encoder = RecurrentEncoder(
            num_ids,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            cell=self.cell,
            bidirectional=self.bidirectional,
            pooling="last",
            dropout=self.encoder_dropout,
        )
        head = self.posterior.build(encoder.num_features, self.latent_size)
        space = WordSpace(num_ids, self.embedding_size)
        decoder = self.decoder(
            space,
            lambda num_read: VectorOutput(space, num_read, self.embedding_size, self.loss),
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
        )
