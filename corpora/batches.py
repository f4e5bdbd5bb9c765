"""The order of training and evaluation: batches of like length under a budget of tokens."""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from corpora.sentences import Sentences, TextBatch

LEAST_SHARE = 0.9  # of a batch's longest sentence, in evaluation


class TokenBatches:
    """The endless order of training: `batches[i]` is a pure function of (seed, i), so a resumed run needs no state.

    Each epoch holds every sentence once: shuffled by (seed, epoch), sorted by length (ties stay random), cut into
    batches of at most `tokens_per_batch` padded, scored positions, and these shuffled too. A sentence longer than
    that is a batch by itself. The cuts depend on the lengths alone and are the same in every epoch, so that only a
    few shapes of batch occur.
    """

    def __init__(self, sentences: Sentences, tokens_per_batch: int, seed: int) -> None:
        assert len(sentences) > 0
        self._sentences = sentences
        self._seed = seed
        self._cuts = _cuts(np.sort(sentences.lengths)[::-1], tokens_per_batch)
        self._epoch = -1
        self._order: Int64[np.ndarray, " N"]  # the current epoch's sentences, longest first
        self._batch_order: Int64[np.ndarray, " batches"]

    @property
    def num_batches(self) -> int:
        """Batches in an epoch; the same for all epochs."""
        return len(self._cuts) - 1

    @property
    def padding(self) -> float:
        """The share of padding among the positions of an epoch."""
        return _padding(np.sort(self._sentences.lengths)[::-1], self._cuts)

    def __getitem__(self, index: int) -> TextBatch:
        """Batch number `index` of the training, from 0, without end."""
        if index < 0:
            raise IndexError(f"the training order starts at 0 and has no end; got {index}")
        epoch, position = divmod(index, self.num_batches)
        if epoch != self._epoch:
            self._shuffle(epoch)
        cut = self._batch_order[position]
        indices = self._order[self._cuts[cut] : self._cuts[cut + 1]]
        return self._sentences.batch(indices, weight=len(indices) * self.num_batches / len(self._sentences))

    def _shuffle(self, epoch: int) -> None:
        rng = np.random.default_rng((self._seed, epoch))
        shuffled = rng.permutation(len(self._sentences))
        self._order = shuffled[np.argsort(-self._sentences.lengths[shuffled], kind="stable")]
        self._batch_order = rng.permutation(self.num_batches)
        self._epoch = epoch


def evaluation_batches(sentences: Sentences, tokens_per_batch: int) -> Iterator[TextBatch]:
    """Every sentence once, the longest first; `indices` tells where in the split each belongs.

    `tokens_per_batch` is a number of padded, scored positions, as in `TokenBatches`. No sentence of a batch is shorter
    than 0.9 of the longest, so that a small split is not one batch of padding.
    """
    order = np.argsort(-sentences.lengths, kind="stable")
    cuts = _cuts(sentences.lengths[order], tokens_per_batch, LEAST_SHARE)
    for start, end in itertools.pairwise(cuts):
        yield sentences.batch(order[start:end])


def _cuts(
    lengths: Int64[np.ndarray, " N"], tokens_per_batch: int, least_share: float = 0.0
) -> Int64[np.ndarray, " bounds"]:
    """Where batches begin and end among sentences whose lengths fall, each at least a share of its batch's longest."""
    cuts = [0]
    while cuts[-1] < len(lengths):
        num_scored = int(lengths[cuts[-1]]) - 1  # all but <s>
        is_long = lengths[cuts[-1] :] - 1 >= least_share * num_scored
        cuts.append(cuts[-1] + min(max(1, tokens_per_batch // num_scored), int(is_long.sum())))
    cuts[-1] = len(lengths)
    return np.array(cuts, dtype=np.int64)


def _padding(lengths: Int64[np.ndarray, " N"], cuts: Int64[np.ndarray, " bounds"]) -> float:
    num_positions = ((lengths[cuts[:-1]] - 1) * np.diff(cuts)).sum()
    return float(1 - (lengths - 1).sum() / num_positions)
