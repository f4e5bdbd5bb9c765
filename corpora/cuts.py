"""How one text is cut into splits: the same way always, and all copies of a sentence together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from corpora.digests import digests
from corpora.texts import SPLIT_SEED, Block, Blocks, Texts, refuse_nothing

MOST_COUNTED = 2**20  # lines, up to which the distinct sentences are counted; each of more goes by its own digest
BY_DIGEST = "by digest"  # stands in the fingerprint of a corpus that is cut so


@dataclass(frozen=True, kw_only=True)
class CountedBlock:
    """A block of one split, and the number of the new split of each of its sentences."""

    block: Block
    names: tuple[str, ...]
    numbers: UInt8[np.ndarray, " N"]

    def texts(self) -> dict[str, Texts]:
        """The sentences by their new split; skipped lines are counted with the first."""
        (texts,) = self.block.texts().values()
        return _parted(texts, self.names, self.numbers)


@dataclass(frozen=True, kw_only=True)
class DigestBlock:
    """A block of one split; the new split of a sentence hangs on its digest alone."""

    block: Block
    shares: Mapping[str, float]

    def texts(self) -> dict[str, Texts]:
        """The sentences by their new split; skipped lines are counted with the first."""
        (texts,) = self.block.texts().values()
        first, *others = self.shares
        bounds = list(accumulate(self.shares[name] for name in others))
        place = digests(texts.sentences) / 2.0**64
        numbers = np.searchsorted(bounds, place, side="right") + 1
        numbers[numbers > len(others)] = 0
        return _parted(texts, (first, *others), numbers.astype(np.uint8))


def is_by_digest(num_lines: int) -> bool:
    """Whether a text of so many lines is cut by the digests of its sentences."""
    return num_lines > MOST_COUNTED


def cut(blocks: Blocks, shares: Mapping[str, float], num_lines: int) -> Blocks:
    """Cut a text of one split into the named ones (the first of them takes what the others leave).

    The shares are of the *distinct* sentences, and all copies of a sentence go the same way, so that none stands on
    both sides. Within a split the order of the text is kept. Up to `MOST_COUNTED` lines the shares are exact but for
    rounding, by SPLIT_SEED, and every split gets a sentence; ValueError is raised where there are fewer distinct
    sentences than splits. In a longer text each sentence goes by its 64-bit digest, for which no other sentence has to
    be known, and the shares are met but for chance.
    """
    if is_by_digest(num_lines):
        return Blocks(lambda: (DigestBlock(block=block, shares=shares) for block in blocks))
    found, sizes, source = [np.zeros(0, dtype=np.uint64)], [], ""
    for block in blocks:
        (texts,) = block.texts().values()
        found.append(digests(texts.sentences))
        sizes.append(len(texts.sentences))
        source = texts.source
    refuse_nothing({source: sum(sizes)})
    numbers = np.split(_split_numbers(np.concatenate(found), shares, source), np.cumsum(sizes)[:-1])

    def counted() -> Iterator[Block]:
        for block, own in zip(blocks, numbers, strict=True):
            yield CountedBlock(block=block, names=tuple(shares), numbers=own)

    return Blocks(counted)


def _split_numbers(
    found: UInt64[np.ndarray, " N"], shares: Mapping[str, float], source: str
) -> UInt8[np.ndarray, " N"]:
    """Which of the splits each sentence goes to."""
    _, firsts, inverse = np.unique(found, return_index=True, return_inverse=True)
    num_distinct = len(firsts)
    if num_distinct < len(shares):
        raise ValueError(
            f"{source}: {num_distinct} distinct sentence(s) cannot be cut into {', '.join(shares)}; "
            "add sentences, or give a folder with train.txt, valid.txt and test.txt"
        )
    group: Int64[np.ndarray, " distinct"] = np.empty(num_distinct, dtype=np.int64)
    group[np.argsort(firsts)] = np.arange(num_distinct)  # the distinct sentences by their first occurrence
    _, *others = shares
    split_of_group = np.zeros(num_distinct, dtype=np.uint8)
    order = np.random.default_rng(SPLIT_SEED).permutation(num_distinct)
    used = 0
    for number, name in enumerate(others, start=1):
        room = num_distinct - used - (len(others) - number) - 1
        size = min(max(1, round(shares[name] * num_distinct)), room)
        split_of_group[order[used : used + size]] = number
        used += size
    return np.asarray(split_of_group[group[inverse]])


def _parted(texts: Texts, names: tuple[str, ...], numbers: UInt8[np.ndarray, " N"]) -> dict[str, Texts]:
    return {
        name: texts.take(np.flatnonzero(numbers == number), 0 if number else texts.num_empty)
        for number, name in enumerate(names)
    }
