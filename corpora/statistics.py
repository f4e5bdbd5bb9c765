"""What a corpus is like, in figures: size, lengths, unknown words, duplicates, overlap of the splits."""

from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from corpora.digests import draws
from corpora.load import Splits
from corpora.sentences import Sentences
from corpora.tokenizer import UNK

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_AT_ONCE = 2**20  # digests that are looked up together


def corpus_statistics(splits: Splits) -> dict[str, Any]:
    """Figures of a corpus as JSON takes them.

    Lengths count scored ids (words or pieces, and `</s>`) and T is their mean; the unknown rate is of the words
    alone. Two sentences are the same when their ids are, which is all that a model sees of them. `duplicates` are
    the sentences beyond the first of their kind within a split, `overlap` those that the training split holds too.
    In memory are 8 bytes a sentence, its digest.
    """
    train = _digests(splits.train)
    return {
        "tokenizer": splits.tokenizer_kind,
        "vocabulary_size": splits.tokenizer.vocabulary_size,
        "labels": list(splits.label_names),
        "splits": {
            name: _figures(sentences)
            | (_repetition(train, train[:0]) if name == "train" else _repetition(_digests(sentences), train))
            | {"empty_lines": splits.counts[name].empty, "sentences_cut": splits.counts[name].cut}
            for name, sentences in splits.by_name().items()
        },
    }


def _digests(sentences: Sentences) -> UInt64[np.ndarray, " N"]:
    """The digests of the sentences' ids, in rising order."""
    found = np.empty(len(sentences), dtype=np.uint64)
    for start, part in sentences.stretches():
        place = np.arange(len(part.tokens)) - np.repeat(part.offsets[:-1], part.lengths)
        drawn = draws(part.tokens.astype(np.uint64) + (place.astype(np.uint64) << np.uint64(32)))
        found[start : start + len(part)] = np.add.reduceat(drawn, part.offsets[:-1])
    found.sort()
    return found


def _figures(sentences: Sentences) -> dict[str, Any]:
    num_of_length: Int64[np.ndarray, " lengths"] = np.zeros(0, dtype=np.int64)
    num_unknown = 0
    for _, part in sentences.stretches():
        found = np.bincount(part.lengths, minlength=len(num_of_length))
        found[: len(num_of_length)] += num_of_length
        num_of_length = found
        num_unknown += int((part.tokens == UNK).sum())
    num_words = sentences.num_scored_tokens - len(sentences)
    return {
        "sentences": len(sentences),
        "scored_tokens": sentences.num_scored_tokens,
        "tokens_per_sentence": sentences.num_scored_tokens / len(sentences),
        "length_quantiles": {f"{q:g}": _quantile(num_of_length, q) - 1 for q in _QUANTILES},  # all but <s> are scored
        "unknown_rate": num_unknown / num_words,
    }


def _quantile(num_of_value: Int64[np.ndarray, " values"], share: float) -> float:
    """`np.quantile` of values that are given by how often 0, 1, 2 … occur."""
    up_to = np.cumsum(num_of_value)
    place = (int(up_to[-1]) - 1) * share
    below = int(np.searchsorted(up_to, int(place), side="right"))
    above = int(np.searchsorted(up_to, int(np.ceil(place)), side="right"))
    return below + (above - below) * (place - int(place))


def _repetition(content: UInt64[np.ndarray, " N"], train: UInt64[np.ndarray, " M"]) -> dict[str, Any]:
    """Of the digests of a split and of the training split, both in rising order."""
    overlap = 0
    for start in range(0, len(content), _AT_ONCE):
        asked = content[start : start + _AT_ONCE]
        overlap += int((np.searchsorted(train, asked, "right") > np.searchsorted(train, asked, "left")).sum())
    return {
        "duplicates": int((content[1:] == content[:-1]).sum()),
        "overlap": overlap,
        "overlap_share": overlap / len(content),
    }
