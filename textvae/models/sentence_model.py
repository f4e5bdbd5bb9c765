"""What every model of sentences is: a latent-variable model whose p(x|z) is a decoder, scored by token and decoded."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from corpora import TextBatch
from latent.bound import LatentModel, Schedule
from textvae.decoding import Decoder, Decoding, State, decode
from textvae.noise import WordDropout


@runtime_checkable
class SentenceDecoder(Decoder[State], Protocol[State]):
    """p(x|z), teacher-forced for the likelihood and step by step for decoding.

    `scored` holds the places of words and `</s>` in the flattened `tokens[:, 1:]`, in order.
    """

    def log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, " N"]:
        """log p(x|z) in nats: the sum over the words and `</s>`."""
        ...

    def token_log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, "N T-1"]:
        """log p(x_t | x_<t, z) in nats at each scored position, 0 elsewhere: what `log_likelihood` sums."""
        ...


class SentenceModel(LatentModel[TextBatch]):
    """A posterior and a prior, which the model gives, and p(x|z) a decoder."""

    decoder: SentenceDecoder[Any]
    word_dropout: WordDropout | None  # of the words that the decoder reads

    def log_likelihood(self, z: Float[Tensor, "S B Z"], batch: TextBatch) -> Float[Tensor, "S B"]:
        """log p(x|z) in nats: the sum over the words and `</s>` of each sentence."""
        found = self.decoder.log_likelihood(*_repeated(z, batch))
        return found.view(len(z), len(batch))

    def token_log_likelihood(self, z: Float[Tensor, "S B Z"], batch: TextBatch) -> Float[Tensor, "S B T"]:
        """log p(x_t | x_<t, z) in nats at each scored position, 0 at padding: what `log_likelihood` sums."""
        found = self.decoder.token_log_likelihood(*_repeated(z, batch))
        return found.view(len(z), *batch.targets.shape)

    def next_words(self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N L"]) -> Int64[Tensor, "N T"]:
        """The word that scores highest at each place after `<s>`, the words before it being the true ones."""
        state, found = self.decoder.start(self.nearest(z)), []
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
) -> tuple[Float[Tensor, "N Z"], Int64[Tensor, "N L"], Int64[Tensor, " M"]]:
    """The N = S·B rows that the decoder scores: z and tokens of each draw of each sentence, and the scored places."""
    first = torch.arange(len(z), device=z.device).unsqueeze(1) * batch.targets.numel()
    return z.flatten(0, 1), batch.tokens.repeat(len(z), 1), (first + batch.scored).flatten()
