"""One split as ids in memory-mapped arrays, and the padded batches cut from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor

from corpora.cache import release
from corpora.devices import send
from corpora.tokenizer import BOS, EOS, PAD, Tokenizer

_STRETCH = 2**16  # sentences that are looked at together
_CHUNK = 10_000  # texts encoded at a time: enough for SentencePiece's threads, little in memory


@dataclass(frozen=True, kw_only=True, eq=False)
class TextBatch:
    """B sentences `<s> … </s>`, padded with `<pad>` to L ids; T = L - 1 positions of each can be scored."""

    tokens: Int64[Tensor, "B L"]
    lengths: Int64[Tensor, " B"]  # ids of each sentence, <s> and </s> included
    indices: Int64[Tensor, " B"]  # the sentences' positions in their split
    scored: Int64[Tensor, " M"]  # where the flattened `targets` hold a word or `</s>`: found here, not on the device
    labels: Int64[Tensor, " B"] | None = None
    weight: float = 1.0  # B over the epoch's mean B: times a mean over the batch, every sentence counts the same

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def targets(self) -> Int64[Tensor, "B T"]:
        """What is to be predicted at each position: the tokens without `<s>`."""
        return self.tokens[:, 1:]

    @property
    def mask(self) -> Bool[Tensor, "B T"]:
        """Where `targets` holds a word or `</s>`: the scored positions."""
        positions = torch.arange(1, self.tokens.shape[1], device=self.tokens.device)
        return positions < self.lengths[:, None]

    def to(self, device: torch.device | str) -> "TextBatch":
        """The batch on a device; the copy need not be over when this returns."""
        return replace(
            self,
            tokens=send(self.tokens, device),
            lengths=send(self.lengths, device),
            indices=send(self.indices, device),
            scored=send(self.scored, device),
            labels=None if self.labels is None else send(self.labels, device),
        )

    def take(self, rows: Int64[Tensor, " M"]) -> "TextBatch":
        """The sentences at the given rows, in their order, padded as before."""
        mask = self.mask[rows]
        return replace(
            self,
            tokens=self.tokens[rows],
            lengths=self.lengths[rows],
            indices=self.indices[rows],
            scored=mask.flatten().nonzero()[:, 0],
            labels=None if self.labels is None else self.labels[rows],
            weight=self.weight * len(rows) / max(1, len(self)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Sentences:
    """The N sentences of one split, encoded: sentence i is `tokens[offsets[i]:offsets[i + 1]]`, `<s>` to `</s>`."""

    tokens: Integer[np.ndarray, " ids"]
    offsets: Int64[np.ndarray, " bounds"]  # N + 1 of them
    labels: Int64[np.ndarray, " N"] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Integer[np.ndarray, " length"]:
        """The ids of one sentence, `<s>` and `</s>` included. Raises IndexError past the end."""
        index = range(len(self))[index]
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " N"]:
        """The number of ids of each sentence, `<s>` and `</s>` included."""
        return np.diff(self.offsets)

    def lengths_of(self, indices: Integer[np.ndarray, " M"]) -> Int64[np.ndarray, " M"]:
        """`lengths[indices]`, for which no more is read than is asked for."""
        return np.asarray(self.offsets[1:][indices] - self.offsets[:-1][indices])

    @property
    def num_scored_tokens(self) -> int:
        """Words (or pieces) and `</s>` of the whole split; over N it is T, the key to every PPL."""
        return len(self.tokens) - len(self)

    def stretches(self) -> Iterator[tuple[int, "Sentences"]]:
        """Some thousand sentences at a time, without labels, each with the number of its first.

        What was read of mapped arrays is given back.
        """
        for start in range(0, len(self), _STRETCH):
            offsets = np.array(self.offsets[start : start + _STRETCH + 1])
            yield start, Sentences(tokens=self.tokens[offsets[0] : offsets[-1]], offsets=offsets - offsets[0])
            self.release()

    def release(self) -> None:
        """Give back the memory in which mapped arrays were read."""
        release(self.tokens)
        release(self.offsets)

    def select(self, indices: Int64[np.ndarray, " M"]) -> "Sentences":
        """The sentences at the indices, in their order, as a split of their own."""
        lengths = self.lengths_of(indices)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        starts = np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return Sentences(
            tokens=self.tokens[starts + np.arange(offsets[-1])],
            offsets=offsets,
            labels=None if self.labels is None else self.labels[indices],
        )

    def batch(self, indices: Integer[np.ndarray, " B"] | Sequence[int], weight: float = 1.0) -> TextBatch:
        """The sentences at the indices, in their order, padded to the longest of them."""
        indices = np.array(indices, dtype=np.int64)  # a copy: the batch's tensor must not share the caller's array
        lengths = self.lengths_of(indices)
        columns = np.arange(lengths.max(initial=2))  # <s> </s> where there is no sentence at all
        positions = self.offsets[:-1][indices][:, None] + columns
        inside = columns < lengths[:, None]
        gathered = self.tokens[np.minimum(positions, len(self.tokens) - 1)].astype(np.int64)
        return TextBatch(
            tokens=torch.from_numpy(np.where(inside, gathered, PAD)),
            lengths=torch.from_numpy(lengths),
            indices=torch.from_numpy(indices),
            scored=torch.from_numpy(np.flatnonzero(inside[:, 1:])),
            labels=None if self.labels is None else torch.from_numpy(self.labels[indices]),
            weight=weight,
        )


def token_dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    """What the tokenizer's ids are kept as: no larger than they need."""
    return np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.int32)


def encode_sentences(texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> Sentences:
    """The texts as sentences of their own, in memory; each is cut to `max_length` scored ids, `</s>` among them."""
    return encode_and_count_cuts(texts, tokenizer, max_length)[0]


def encode_and_count_cuts(texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> tuple[Sentences, int]:
    """`encode_sentences`, and how many of the sentences were cut."""
    dtype = token_dtype(tokenizer)
    tokens, lengths = [np.zeros(0, dtype)], [np.zeros(1, np.int64)]
    num_cut = 0
    for start in range(0, len(texts), _CHUNK):
        # One id more than there is room for beside </s> shows that a sentence is too long.
        ids, num_ids = tokenizer.encode_all(texts[start : start + _CHUNK], limit=max_length)
        is_cut = num_ids == max_length
        num_cut += int(is_cut.sum())
        ends = np.cumsum(num_ids)
        ids = np.delete(ids, ends[is_cut] - 1)
        ends = np.cumsum(num_ids - is_cut)
        begins = np.concatenate([[0], ends[:-1]])
        marks = np.tile([BOS, EOS], len(ends))
        places = np.stack([begins, ends], axis=1).ravel()
        tokens.append(np.insert(ids, places, marks).astype(dtype))
        lengths.append(num_ids - is_cut + 2)
    return Sentences(tokens=np.concatenate(tokens), offsets=np.cumsum(np.concatenate(lengths))), num_cut
