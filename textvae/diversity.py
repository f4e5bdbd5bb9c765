"""How different the sentences of a set are from one another: self-BLEU and the share of distinct n-grams."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from sacrebleu.metrics.bleu import BLEU

from latent.measures import Estimate
from latent.measures.jackknife import jackknife_estimate

MAX_ORDER = 4
MISSING_COUNT = 0.1  # of an n-gram order without a match, as Texygen has it


@dataclass(frozen=True)
class NgramCounts:
    """How often each n-gram of 1 to 4 words stands in each of N sentences: E entries, sorted by n-gram.

    Among the entries of one n-gram that with the highest count is the first.
    """

    num_words: Int64[np.ndarray, " N"]
    sentence: Int64[np.ndarray, " E"]
    ngram: Int64[np.ndarray, " E"]
    order: Int64[np.ndarray, " E"]
    count: Int64[np.ndarray, " E"]

    @classmethod
    def of(cls, sentences: Sequence[Sequence[str]]) -> "NgramCounts":
        """Count the n-grams of sentences given as words."""
        numbers: dict[tuple[str, ...], int] = {}
        rows: list[tuple[int, int, int, int]] = []
        for place, words in enumerate(sentences):
            for n in range(1, MAX_ORDER + 1):
                counts = Counter(zip(*(words[start:] for start in range(n)), strict=False))
                rows += [(place, numbers.setdefault(gram, len(numbers)), n, c) for gram, c in counts.items()]
        entries = np.array(rows, dtype=np.int64).reshape(-1, 4)
        sentence, ngram, order, count = entries[np.lexsort((-entries[:, 3], entries[:, 1]))].T
        return cls(np.array([len(words) for words in sentences], dtype=np.int64), sentence, ngram, order, count)

    def select(self, kept: Int64[np.ndarray, " M"]) -> "NgramCounts":
        """The entries of some sentences alone, renumbered from 0."""
        number = np.full(len(self.num_words), -1)
        number[kept] = np.arange(len(kept))
        inside = number[self.sentence] >= 0
        return NgramCounts(
            self.num_words[kept],
            number[self.sentence[inside]],
            self.ngram[inside],
            self.order[inside],
            self.count[inside],
        )


def distinct_ngrams(counts: NgramCounts, n: int) -> Estimate:
    """Distinct-n: different n-grams over all n-grams of the set (Li et al. 2016 have all words below); nan of none.

    It falls as the set grows: compare only sets of the same number of sentences.
    """

    def statistic(kept: Int64[np.ndarray, " M"]) -> float:
        part = counts.select(kept)
        mine = part.order == n
        total = int(part.count[mine].sum())
        return len(np.unique(part.ngram[mine])) / total if total > 0 else math.nan

    return jackknife_estimate(statistic, len(counts.num_words))


def self_bleu(counts: NgramCounts) -> Estimate:
    """The mean BLEU-4, 0 to 100, of each sentence that has words against all others as its references.

    Zhu et al. 2018, "Texygen": sentence BLEU with the closest reference length, an order without a match counting as
    0.1 matches. It rises with the number of references: compare only sets of the same number of sentences. Exact, in
    time linear in the n-grams: the highest count of an n-gram among the others is the highest of all, or the second
    highest for the sentence that has the highest itself. nan where no sentence has words.

    Raises ValueError for fewer than two sentences.
    """
    if len(counts.num_words) < 2:
        raise ValueError(f"self-BLEU needs at least two sentences, got {len(counts.num_words)}")
    return jackknife_estimate(lambda kept: _self_bleu(counts.select(kept)), len(counts.num_words))


def _self_bleu(counts: NgramCounts) -> float:
    num_sentences = len(counts.num_words)
    cell = counts.sentence * MAX_ORDER + counts.order - 1
    cells = num_sentences * MAX_ORDER
    matched = np.bincount(cell, np.minimum(counts.count, _highest_elsewhere(counts)), cells).reshape(-1, MAX_ORDER)
    total = np.bincount(cell, counts.count, cells).reshape(-1, MAX_ORDER)
    closest = _closest_lengths(counts.num_words)
    scores = [
        BLEU.compute_bleu(
            m, t, length, closest[length], smooth_method="floor", smooth_value=MISSING_COUNT, effective_order=True
        ).score
        for m, t, length in zip(matched.tolist(), total.tolist(), counts.num_words.tolist(), strict=True)
        if length > 0
    ]
    return math.fsum(scores) / len(scores) if scores else math.nan


def _highest_elsewhere(counts: NgramCounts) -> Int64[np.ndarray, " E"]:
    """The highest count of each entry's n-gram in any other sentence, 0 where there is none."""
    is_first = np.diff(counts.ngram, prepend=-1) != 0
    start = np.flatnonzero(is_first)
    ngram = np.cumsum(is_first) - 1
    has_second = np.diff(start, append=len(is_first)) > 1
    second = np.zeros_like(start)
    second[has_second] = counts.count[start[has_second] + 1]
    highest: Int64[np.ndarray, " E"] = np.where(is_first, second[ngram], counts.count[start][ngram])
    return highest


def _closest_lengths(num_words: Int64[np.ndarray, " N"]) -> dict[int, int]:
    """For each length the one nearest to it among the other sentences, the shorter of two equally near."""
    held = Counter(num_words.tolist())
    return {
        length: min((m for m, c in held.items() if m != length or c > 1), key=lambda m: (abs(m - length), m))
        for length in held
    }
