"""An n-gram language model over ids, which judges samples and is trained on samples: counts in sorted arrays."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from corpora import EOS, Sentences


@dataclass(frozen=True)
class Level:
    """What was counted of the n-grams of one length; an n-gram is the number whose digits, base `num_ids`, it has."""

    grams: Int64[np.ndarray, " grams"]
    counts: Int64[np.ndarray, " grams"]
    histories: Int64[np.ndarray, " histories"]
    totals: Int64[np.ndarray, " histories"]  # how often a history occurred
    followers: Int64[np.ndarray, " histories"]  # how many different words came after it


@dataclass(frozen=True)
class NgramModel:
    r"""Interpolated Witten–Bell smoothing down to the uniform distribution over the V words that can be scored.

    \[p(w|h) = \frac{c(hw) + T(h)\, p(w|h')}{c(h) + T(h)}, \qquad p(w|\,\text{nothing}) = 1/V\]

    where T(h) is the number of different words seen after h, and h' is h without its oldest word; an unseen h gives
    p(w|h'). It has no parameter to tune and sums to one by construction. A sentence is scored as everywhere: its words
    and `</s>`; before its first word stand as many `<s>` as the model looks back.

    Reference: Witten & Bell 1991, method C; interpolated as in Chen & Goodman 1999, section 2.4.
    """

    num_ids: int
    levels: tuple[Level, ...]

    @classmethod
    def fit(cls, sentences: Sentences, num_ids: int, order: int = 3) -> "NgramModel":
        """Count the n-grams of up to `order` words. Raises ValueError where there is no sentence."""
        if len(sentences) == 0:
            raise ValueError("an n-gram model needs at least one sentence to count")
        assert num_ids**order < 2**63
        windows = _windows(sentences, order)
        return cls(num_ids, tuple(_level(_keys(windows[:, -n:], num_ids), num_ids) for n in range(1, order + 1)))

    def nll(self, sentences: Sentences) -> Float[Tensor, " N"]:
        """−log p of each sentence, in nats."""
        nll_of_tokens = -np.log(self.probability(_windows(sentences, len(self.levels))))
        sentence = np.repeat(np.arange(len(sentences)), sentences.lengths - 1)
        return torch.from_numpy(np.bincount(sentence, nll_of_tokens, minlength=len(sentences)))

    def probability(self, windows: Int64[np.ndarray, "M order"]) -> Float64[np.ndarray, " M"]:
        """p(last word | those before it) of each row of ids."""
        found = np.full(len(windows), 1 / (self.num_ids - EOS))
        for n, level in enumerate(self.levels, start=1):
            grams = _keys(windows[:, -n:], self.num_ids)
            count = _looked_up(level.grams, level.counts, grams)
            total = _looked_up(level.histories, level.totals, grams // self.num_ids)
            followers = _looked_up(level.histories, level.followers, grams // self.num_ids)
            weight = np.where(total == 0, 1, followers)
            found = (count + weight * found) / (total + weight)
        return found


def _windows(sentences: Sentences, order: int) -> Int64[np.ndarray, "M order"]:
    """Each scored token with the `order` − 1 before it, `<s>` where the sentence has not begun; the oldest first."""
    place = np.arange(len(sentences.tokens))
    start = np.repeat(sentences.offsets[:-1], sentences.lengths)  # where the sentence's `<s>` stands
    scored = place > start
    columns = [sentences.tokens[np.maximum(place - back, start)[scored]] for back in reversed(range(order))]
    return np.stack(columns, axis=1).astype(np.int64)


def _keys(windows: Int64[np.ndarray, "M n"], num_ids: int) -> Int64[np.ndarray, " M"]:
    keys = np.zeros(len(windows), dtype=np.int64)
    for column in windows.T:
        keys = keys * num_ids + column
    return keys


def _level(keys: Int64[np.ndarray, " M"], num_ids: int) -> Level:
    grams, counts = np.unique(keys, return_counts=True)
    histories, first, followers = np.unique(grams // num_ids, return_index=True, return_counts=True)
    return Level(grams, counts, histories, np.add.reduceat(counts, first), followers)


def _looked_up(
    keys: Int64[np.ndarray, " K"], values: Int64[np.ndarray, " K"], wanted: Int64[np.ndarray, " M"]
) -> Int64[np.ndarray, " M"]:
    """The values of sorted keys, 0 for those that are not there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
