"""Sentences as text, before any tokenizer: what a corpus hands over, and how one text is cut into splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Int64
from pydantic import Field

SPLITS = ("train", "valid", "test")
SPLIT_SEED = 0  # every cut of every corpus uses it, so that two runs on one text have the same test split

Fraction = Annotated[float, Field(gt=0, lt=1)]
Fractions = tuple[Fraction, Fraction, Fraction]
MaxLength = Annotated[int, Field(ge=2)]  # scored ids of a sentence: words or pieces, and </s>, which is never cut off


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """The sentences of one split: no empty ones, blanks collapsed, all on one line each."""

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


def collect(source: str, lines: Sequence[str], labels: Sequence[str] | None = None) -> Texts:
    """Collapse the blanks of each line and skip the empty ones. Raises ValueError where none is left."""
    collapsed = [" ".join(line.split()) for line in lines]
    kept = [i for i, line in enumerate(collapsed) if line]
    if not kept:
        raise ValueError(f"{source}: holds no sentence; write one sentence a line")
    return Texts(
        source=source,
        sentences=[collapsed[i] for i in kept],
        line_numbers=np.array(kept, dtype=np.int64) + 1,
        labels=None if labels is None else [labels[i] for i in kept],
        num_empty=len(lines) - len(kept),
    )


def check_fractions(fractions: Fractions) -> None:
    """Raises ValueError unless the three shares make a whole."""
    if abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"the fractions of train, valid and test must add up to 1, not {sum(fractions):g}")


def cut(texts: Texts, shares: Mapping[str, float]) -> dict[str, Texts]:
    """Cut one text into the named splits (the first of them takes what the others leave), by SPLIT_SEED.

    The shares are of the *distinct* sentences, and all copies of a sentence go the same way, so that none stands on
    both sides. Every split gets at least one. Within a split the order of the text is kept; the skipped lines are
    counted with the first. Raises ValueError where there are fewer distinct sentences than splits.
    """
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(sentence, len(numbers)) for sentence in texts.sentences], dtype=np.int64)
    num_distinct = len(numbers)
    if num_distinct < len(shares):
        raise ValueError(
            f"{texts.source}: {num_distinct} distinct sentence(s) cannot be cut into {', '.join(shares)}; "
            "add sentences, or give a folder with train.txt, valid.txt and test.txt"
        )
    first, *others = shares
    split_of_group = np.zeros(num_distinct, dtype=np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(num_distinct)
    used = 0
    for number, name in enumerate(others, start=1):
        room = num_distinct - used - (len(others) - number) - 1
        size = min(max(1, round(shares[name] * num_distinct)), room)
        split_of_group[order[used : used + size]] = number
        used += size
    split_of_sentence = split_of_group[group]
    positions = {name: np.flatnonzero(split_of_sentence == number) for number, name in enumerate((first, *others))}
    return {name: texts.take(at, texts.num_empty if name == first else 0) for name, at in positions.items()}
