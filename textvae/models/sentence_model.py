"""What every model of sentences is: a latent-variable model whose p(x|z) is a decoder, scored by token and decoded."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from corpora import TextBatch
from latent.bound import LatentModel, Schedule
from textvae.decoding import Decoder, Decoding, State, decode
from textvae.noise import WordDropout


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


class SentenceModel(LatentModel[TextBatch]):
    """A posterior and a prior, which the model gives, and p(x|z) a decoder."""

    decoder: SentenceDecoder[Any]
    word_dropout: WordDropout | None = None  # of the words that the decoder reads

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
        return decode(self.decoder, self.nearest(z), decoding, max_length=max_length, generator=generator)

    def nearest(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "N Z"]:
        """The points nearest to z that a draw can be: z itself, unless a model says otherwise."""
        return z

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """Of the word dropout."""
        return {} if self.word_dropout is None else {"word_dropout_schedule": self.word_dropout.schedule}

    def at_step(self, step: int) -> None:
        """Take the word dropout of a step of training."""
        if self.word_dropout is not None:
            self.word_dropout.at_step(step)


def _repeated(
    z: Float[Tensor, "S B Z"], batch: TextBatch
) -> tuple[Float[Tensor, "N Z"], Int64[Tensor, "N L"], Bool[Tensor, "N T"]]:
    """The N = S·B rows that the decoder scores: z, tokens and mask of each draw of each sentence."""
    return z.flatten(0, 1), batch.tokens.repeat(len(z), 1), batch.mask.repeat(len(z), 1)
