"""The sentence VAE: an encoder, a posterior head, a prior and a decoder, whichever they are."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Distribution

from corpora import TextBatch
from latent.distributions import Head, PriorConfig, SequenceReader
from textvae.bag_of_words import BagOfWords
from textvae.models.sentence_model import SentenceDecoder, SentenceModel
from textvae.noise import WordDropout, WordNoise


@runtime_checkable
class Encoder(Protocol):
    """Token ids in, one feature vector per sentence out. Padding changes nothing."""

    num_features: int

    def __call__(self, tokens: Int64[Tensor, "B T"], lengths: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """Features of each sentence; `lengths` counts `<s>` and `</s>`."""
        ...

    def read(self, sequences: Float[Tensor, "K L E"]) -> Float[Tensor, "K H"]:
        """Features of sequences of vectors in the place of embeddings, all of one length, without dropout."""
        ...


class SentenceVae(SentenceModel):
    """q(z|x) from a head on an encoder's features, p(z) = N(0, I) or another prior, p(x|z) a decoder given z.

    In training `encoder_noise` changes the words that the encoder reads (the targets stay), `word_dropout` those that
    the decoder reads, by its schedule, and z predicts the bag of words too.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: Head,
        decoder: SentenceDecoder[Any],
        prior: PriorConfig,
        *,
        latent_size: int,
        embedding_size: int,
        word_dropout: WordDropout | None = None,
        encoder_noise: WordNoise | None = None,
        bag_of_words: BagOfWords | None = None,
        layers: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.encoder = encoder
        self.head = head
        self.decoder = decoder
        self.word_dropout = word_dropout
        self.encoder_noise = encoder_noise
        self.bag_of_words = bag_of_words
        self.layers = tuple(layers)
        self.latent_prior = prior.build(latent_size, SequenceReader(embedding_size, self._posterior_of))

    def posterior(self, batch: TextBatch) -> Distribution:
        """q(z|x): batch shape B, event shape Z."""
        tokens, lengths = batch.tokens, batch.lengths
        if self.encoder_noise is not None:
            tokens, lengths = self.encoder_noise(tokens, lengths)
        q: Distribution = self.head(self.encoder(tokens, lengths))
        return q

    def prior(self, batch: TextBatch) -> Distribution:
        """p(z), the same for every sentence: batch shape B, event shape Z."""
        p: Distribution = self.latent_prior(len(batch))
        return p

    def _posterior_of(self, sequences: Float[Tensor, "K L E"]) -> Distribution:
        """q of sequences of vectors in the place of embeddings."""
        q: Distribution = self.head(self.encoder.read(sequences))
        return q

    @property
    def posterior_is_free(self) -> bool:
        """The head knows."""
        return self.head.is_free

    def nearest(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "N Z"]:
        """The points nearest to z that a draw can be: the head knows."""
        found: Float[Tensor, "N Z"] = self.head.nearest(z)
        return found

    def log_likelihoods(
        self, z: Float[Tensor, "S B Z"], batch: TextBatch
    ) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"] | None]:
        """log p(x|z), and in training that of the bag of words given z, where there is one."""
        log_likelihood = self.log_likelihood(z, batch)
        if self.bag_of_words is None or not self.training:
            return log_likelihood, None
        return log_likelihood, self.bag_of_words.log_likelihood(z, batch.targets, batch.mask)
