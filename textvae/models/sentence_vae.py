"""The sentence VAE: an encoder, a posterior head, a prior and a decoder, whichever they are."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from corpora import TextBatch
from latent.distributions import Head, PriorConfig
from textvae.models.sentence_model import SentenceDecoder, SentenceModel


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
    """q(z|x) from a head on an encoder's features, p(z) = N(0, I) or another prior, p(x|z) a decoder given z."""

    def __init__(
        self,
        encoder: Encoder,
        head: Head,
        decoder: SentenceDecoder[Any],
        prior: PriorConfig,
        *,
        latent_size: int,
        embedding_size: int,
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.encoder = encoder
        self.head = head
        self.decoder = decoder
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

    def nearest(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "N Z"]:
        """The points nearest to z that a draw can be: the head knows."""
        found: Float[Tensor, "N Z"] = self.head.nearest(z)
        return found
