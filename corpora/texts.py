"""Sentences as text, before any tokenizer: what a corpus hands over, block by block."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from pydantic import Field

SPLITS = ("train", "valid", "test")
SPLIT_SEED = 0  # every cut of every corpus uses it, so that two runs on one text have the same test split
BLOCK_LINES = 2**15  # of what is not read from a file: so many make a block

Fraction = Annotated[float, Field(gt=0, lt=1)]
Fractions = tuple[Fraction, Fraction, Fraction]
MaxLength = Annotated[int, Field(ge=2)]  # scored ids of a sentence: words or pieces, and </s>, which is never cut off


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """Sentences of one split in a row: no empty ones, blanks collapsed, all on one line each."""

    source: str  # the file or data set, for messages
    sentences: list[str]
    line_numbers: Int64[np.ndarray, " N"]  # where each sentence stands in the source, from 1
    labels: list[str] | None = None
    num_empty: int = 0  # lines skipped because nothing stood on them

    def take(self, positions: Int64[np.ndarray, " K"], num_empty: int = 0) -> "Texts":
        """The sentences at the positions, in their order."""
        return Texts(
            source=self.source,
            sentences=[self.sentences[i] for i in positions],
            line_numbers=self.line_numbers[positions],
            labels=None if self.labels is None else [self.labels[i] for i in positions],
            num_empty=num_empty,
        )


@runtime_checkable
class Block(Protocol):
    """A stretch of a corpus: what one worker needs to read some thousand lines of it, and no more than that."""

    def texts(self) -> dict[str, Texts]:
        """The sentences by split. Raises ValueError, naming file, line and remedy, for what is no such text."""
        ...


@dataclass(frozen=True)
class Blocks:
    """A corpus as text, in order: it can be gone through again and again, and never stands in memory whole."""

    make: Callable[[], Iterator[Block]]

    def __iter__(self) -> Iterator[Block]:
        return self.make()


@dataclass(frozen=True, kw_only=True)
class LineBlock:
    """Lines that are in memory."""

    split: str
    source: str
    lines: Sequence[str]
    labels: Sequence[str] | None = None
    first_line: int = 1  # its number in the source

    def texts(self) -> dict[str, Texts]:
        """The sentences of the one split."""
        return {self.split: collect(self.source, self.lines, self.labels, self.first_line)}


def collect(source: str, lines: Sequence[str], labels: Sequence[str] | None = None, first_line: int = 1) -> Texts:
    """Collapse the blanks of each line and skip the empty ones."""
    collapsed = [" ".join(line.split()) for line in lines]
    kept = [i for i, line in enumerate(collapsed) if line]
    return Texts(
        source=source,
        sentences=[collapsed[i] for i in kept],
        line_numbers=np.array(kept, dtype=np.int64) + first_line,
        labels=None if labels is None else [labels[i] for i in kept],
        num_empty=len(lines) - len(kept),
    )


def gather(blocks: Iterable[Block]) -> dict[str, Texts]:
    """All of a corpus in memory, by split. Raises ValueError as the blocks do, and for a source without a sentence."""
    found: dict[str, Texts] = {}
    for block in blocks:
        for name, texts in block.texts().items():
            found[name] = _joined(found[name], texts) if name in found else texts
    num_sentences: Counter[str] = Counter()
    for texts in found.values():
        num_sentences[texts.source] += len(texts.sentences)
    refuse_nothing(num_sentences)
    return found


def refuse_nothing(num_sentences: Mapping[str, int]) -> None:
    """Raise ValueError for a source without a sentence."""
    for source, num in num_sentences.items():
        if num == 0:
            raise ValueError(f"{source}: holds no sentence; write one sentence a line")


def check_fractions(fractions: Fractions) -> None:
    """Raises ValueError unless the three shares make a whole."""
    if abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"the fractions of train, valid and test must add up to 1, not {sum(fractions):g}")


def _joined(one: Texts, other: Texts) -> Texts:
    return replace(
        one,
        sentences=one.sentences + other.sentences,
        line_numbers=np.concatenate([one.line_numbers, other.line_numbers]),
        labels=None if one.labels is None else one.labels + (other.labels or []),
        num_empty=one.num_empty + other.num_empty,
    )
