"""The order of training and evaluation: batches of like length under a budget of tokens."""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, Integer

from corpora.sentences import Sentences, TextBatch

LEAST_SHARE = 0.9  # of a batch's longest sentence, in evaluation
RUN = 2**10  # sentences in a row that stay together where there are several blocks
BLOCK_RUNS = 2**8  # of them in a block, at most


class TokenBatches:
    """The endless order of training: `batches[i]` is a pure function of (seed, i), so a resumed run needs no state.

    Each epoch holds every sentence once: shuffled by (seed, epoch), sorted by length (ties stay random), cut into
    batches of at most `tokens_per_batch` padded, scored positions, and these shuffled too. A sentence longer than
    that is a batch by itself. The cuts depend on the lengths alone and are the same in every epoch, so that only a
    few shapes of batch occur.

    Of more than 2^18 sentences this is done in blocks, one after the other, so that time and memory of a batch do not
    grow with the corpus: runs of 1,024 neighbours are dealt out to blocks by the seed, once, and the blocks of an
    epoch come in an order by (seed, epoch).
    """

    def __init__(self, sentences: Sentences, tokens_per_batch: int, seed: int) -> None:
        assert len(sentences) > 0
        self._sentences = sentences
        self._seed = seed
        self._blocks = _deal(len(sentences), seed)
        self._cuts: list[Int64[np.ndarray, " bounds"]] = []  # of each block
        num_positions = 0
        for block in range(len(self._blocks)):
            falling = np.sort(sentences.lengths_of(self._members(block)))[::-1]
            cuts = _cuts(falling, tokens_per_batch)
            num_positions += int(((falling[cuts[:-1]] - 1) * np.diff(cuts)).sum())
            self._cuts.append(cuts)
        self._num_batches = np.array([len(cuts) - 1 for cuts in self._cuts])
        self._padding = float(1 - sentences.num_scored_tokens / num_positions)
        self._epoch = -1
        self._block_order: Int64[np.ndarray, " blocks"]  # of the current epoch
        self._starts: Int64[np.ndarray, " blocks"]  # the first batch of each, in this order
        self._block = (-1, -1)  # epoch and number of the current one
        self._order: Int64[np.ndarray, " N"]  # the current block's sentences, longest first
        self._batch_order: Int64[np.ndarray, " batches"]

    @property
    def num_batches(self) -> int:
        """Batches in an epoch; the same for all epochs."""
        return int(self._num_batches.sum())

    @property
    def padding(self) -> float:
        """The share of padding among the positions of an epoch."""
        return self._padding

    def __getitem__(self, index: int) -> TextBatch:
        """Batch number `index` of the training, from 0, without end."""
        if index < 0:
            raise IndexError(f"the training order starts at 0 and has no end; got {index}")
        epoch, position = divmod(index, self.num_batches)
        if epoch != self._epoch:
            self._shuffle_blocks(epoch)
        place = int(np.searchsorted(self._starts, position, side="right")) - 1
        block = int(self._block_order[place])
        if (epoch, block) != self._block:
            self._shuffle(epoch, block)
        cuts, cut = self._cuts[block], self._batch_order[position - self._starts[place]]
        indices = self._order[cuts[cut] : cuts[cut + 1]]
        return self._sentences.batch(indices, weight=len(indices) * self.num_batches / len(self._sentences))

    def _members(self, block: int) -> Int64[np.ndarray, " members"]:
        """The sentences of a block, in the order of the corpus."""
        members = (self._blocks[block][:, None] * RUN + np.arange(RUN)).ravel()
        return members[members < len(self._sentences)]

    def _shuffle_blocks(self, epoch: int) -> None:
        num_blocks = len(self._blocks)
        self._block_order = np.random.default_rng((self._seed, epoch, num_blocks)).permutation(num_blocks)
        self._starts = np.cumsum(self._num_batches[self._block_order]) - self._num_batches[self._block_order]
        self._epoch = epoch

    def _shuffle(self, epoch: int, block: int) -> None:
        self._sentences.release()
        rng = np.random.default_rng((self._seed, epoch, block))  # (seed, epoch) to numpy where the block is 0
        shuffled = rng.permutation(self._members(block))
        lengths = self._sentences.lengths_of(shuffled)
        self._order = shuffled[_longest_first(lengths)]
        self._batch_order = rng.permutation(self._num_batches[block])
        self._block = (epoch, block)


def evaluation_batches(sentences: Sentences, tokens_per_batch: int) -> Iterator[TextBatch]:
    """Every sentence once, the longest first; `indices` tells where in the split each belongs.

    `tokens_per_batch` is a number of padded, scored positions, as in `TokenBatches`. No sentence of a batch is shorter
    than 0.9 of the longest, so that a small split is not one batch of padding.
    """
    lengths = sentences.lengths
    order = _longest_first(lengths)
    cuts = _cuts(lengths[order], tokens_per_batch, LEAST_SHARE)
    for start, end in itertools.pairwise(cuts):
        yield sentences.batch(order[start:end])


def _deal(num_sentences: int, seed: int) -> list[Int64[np.ndarray, " runs"]]:
    """The runs of each block, in the order of the corpus: all of them where there is one block."""
    num_runs = -(-num_sentences // RUN)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))  # no (seed, epoch, block) gives this one
    dealt = np.array_split(rng.permutation(num_runs), -(-num_runs // BLOCK_RUNS))
    return [np.sort(runs) for runs in dealt]


def _longest_first(lengths: Integer[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """`argsort(-lengths)`, stable; of small integers numpy's sort takes linear time."""
    below = lengths.max(initial=0) - lengths
    return np.argsort(below.astype(np.min_scalar_type(below.max(initial=0))), kind="stable")


def _cuts(
    lengths: Int64[np.ndarray, " N"], tokens_per_batch: int, least_share: float = 0.0
) -> Int64[np.ndarray, " bounds"]:
    """Where batches begin and end among sentences whose lengths fall, each at least a share of its batch's longest."""
    rising = 1.0 - lengths  # minus the scored ids: all but <s>
    cuts = [0]
    while cuts[-1] < len(lengths):
        num_scored = int(lengths[cuts[-1]]) - 1
        num_long = int(np.searchsorted(rising, -least_share * num_scored, side="right"))
        cuts.append(min(cuts[-1] + max(1, tokens_per_batch // num_scored), num_long))
    return np.array(cuts, dtype=np.int64)
