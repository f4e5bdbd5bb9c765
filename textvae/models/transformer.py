"""The transformer sentence VAE: Li et al. 2020, "Optimus", by its shape, from random weights and of any size."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from latent.bound import Constant, Schedule, WithPosterior
from latent.distributions import NormalHeadConfig, PosteriorConfig, PriorConfig, prior_for
from textvae.bag_of_words import BagOfWords
from textvae.likelihood import OfWords
from textvae.models.sentence_vae import SentenceVae
from textvae.noise import Share, WordNoiseConfig, check_word_dropout
from textvae.transformer import (
    InjectionName,
    PositionsConfig,
    RotaryPositionsConfig,
    TransformerDecoder,
    TransformerEncoder,
)


@dataclass(frozen=True, kw_only=True)
class TransformerVaeConfig(OfWords, WithPosterior):
    """Sizes and dropouts; encoder and decoder have as many layers each.

    GPT-2 small's decoder is hidden_size 768, num_layers 12, num_heads 12, positions {kind: learned, max_length: 1022}.
    """

    kind: Literal["transformer"] = "transformer"
    latent_size: PositiveInt = 32
    hidden_size: PositiveInt = 256  # a multiple of num_heads
    num_layers: PositiveInt = 4
    num_heads: PositiveInt = 4
    positions: PositionsConfig = field(default_factory=RotaryPositionsConfig)
    injection: InjectionName = "embedding"  # z on every word's embedding, in a token before them, or in every layer
    word_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of decoder inputs replaced by <unk>, in training
    word_dropout_schedule: Schedule = field(default_factory=Constant)  # a factor on word_dropout
    dropout: Share = 0.1  # of the decoder's embeddings and of what its layers add: GPT-2's
    encoder_dropout: Share = 0.0  # of the encoder's embeddings
    encoder_noise: WordNoiseConfig | None = None  # on the words that the encoder reads, in training
    tie_weights: bool = True  # the decoder's output layer is its embedding, as in GPT-2
    bag_of_words: bool = False  # z predicts the words without their order too, for objective.auxiliary_weight
    posterior: PosteriorConfig = field(default_factory=NormalHeadConfig)
    prior: PriorConfig | None = None  # the posterior's own: N(0, I), or the uniform sphere

    def __post_init__(self) -> None:
        prior_for(self.posterior, self.prior, self.latent_size)
        check_word_dropout(self.word_dropout, self.word_dropout_schedule)
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads})")
        head_size, multiple = self.hidden_size // self.num_heads, self.positions.head_multiple
        if head_size % multiple:
            raise ValueError(
                f"positions {self.positions.kind} needs hidden_size / num_heads to be a multiple of {multiple}; "
                f"it is {head_size}"
            )

    @property
    def has_layers(self) -> bool:
        """Those of the encoder and of the decoder."""
        return True

    def check_length(self, max_length: int) -> None:
        """Raise ValueError where the corpus' longest sentences have more positions than are learned."""
        self.positions.check_length(max_length)

    def build(self, num_ids: int) -> SentenceVae:
        """The model for a tokenizer of `num_ids` ids."""
        encoder = TransformerEncoder(
            num_ids,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            positions=self.positions.build(self.hidden_size, self.num_heads),
            dropout=self.encoder_dropout,
        )
        head = self.posterior.build(encoder.num_features, self.latent_size)
        decoder = TransformerDecoder(
            num_ids,
            latent_size=self.latent_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            injection=self.injection,
            positions=self.positions.build(self.hidden_size, self.num_heads),
            word_dropout=self.word_dropout,
            word_dropout_schedule=self.word_dropout_schedule,
            dropout=self.dropout,
            tie_weights=self.tie_weights,
        )
        prior = prior_for(self.posterior, self.prior, self.latent_size)
        return SentenceVae(
            encoder,
            head,
            decoder,
            prior,
            latent_size=self.latent_size,
            embedding_size=self.hidden_size,
            word_dropout=decoder.word_dropout,
            encoder_noise=None if self.encoder_noise is None else self.encoder_noise.build(),
            bag_of_words=BagOfWords(num_ids, self.latent_size) if self.bag_of_words else None,
            layers=(*encoder.blocks, *decoder.blocks),
        )
