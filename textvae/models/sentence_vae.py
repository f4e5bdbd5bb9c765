"""The sentence VAE: an encoder, a posterior head, a prior and a decoder, whichever they are."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from corpora import TextBatch
from latent.bound import LatentModel
from latent.distributions import Head, PriorConfig
from textvae.decoding import Decoder, Decoding, State, decode


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


@runtime_checkable
class SentenceDecoder(Decoder[State], Protocol[State]):
    """p(x|z), teacher-forced for the likelihood and step by step for decoding. `mask` marks scored `tokens[:, 1:]`."""

    def log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], mask: Bool[Tensor, "N T-1"]
    ) -> Float[Tensor, " N"]:
        """log p(x|z) in nats: the sum over the words and `</s>`."""
        ...

    def token_log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], mask: Bool[Tensor, "N T-1"]
    ) -> Float[Tensor, "N T-1"]:
        """log p(x_t | x_<t, z) in nats at each position that `mask` marks, 0 elsewhere: what `log_likelihood` sums."""
        ...


class SentenceVae(LatentModel[TextBatch]):
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

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: TextBatch) -> Float[Tensor, "S B"]:
        """log p(x|z) in nats: the sum over the words and `</s>` of each sentence."""
        found = self.decoder.log_likelihood(*_repeated(z, batch))
        return found.view(len(z), len(batch))

    def token_log_likelihood(self, z: Float[Tensor, "S B Z"], batch: TextBatch) -> Float[Tensor, "S B T"]:
        """log p(x_t | x_<t, z) in nats at each scored position, 0 at padding: what `log_likelihood` sums."""
        found = self.decoder.token_log_likelihood(*_repeated(z, batch))
        return found.view(len(z), *batch.mask.shape)

    def next_words(self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N L"]) -> Int64[Tensor, "N T"]:
        """The word that scores highest at each place after `<s>`, the words before it being the true ones."""
        state, found = self.decoder.start(self.head.nearest(z)), []
        for column in tokens[:, :-1].T:
            logits, state = self.decoder.step(column, state)
            found.append(logits.argmax(-1))
        return torch.stack(found, 1)

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
